"""Deepfake detection by perceptual forgery fidelity: DeepFidelity (arXiv 2312.04961) in JAX."""

__version__ = "0.1.0"


def __getattr__(name: str):
    # On first use, so that input workers and `--help` do not wait for JAX.
    if name in ("load", "Detector"):
        from deepfidelity_jax.detector import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
