"""Packaging: `pip install -e .` is all a fresh machine needs."""

from pathlib import Path

from setuptools import find_packages, setup

# `datasets/` and `configs/` stay at the top of the tree where people look for them, but are
# imported under names of our own: `datasets` is taken by a well-known package.
MAPPED = {"deepfidelity_datasets": "datasets", "deepfidelity_configs": "configs"}

packages = find_packages(include=["deepfidelity_jax", "deepfidelity_jax.*"])
for name, folder in MAPPED.items():
    packages += [name, *(f"{name}.{sub}" for sub in find_packages(folder))]

setup(
    name="deepfidelity_jax",
    version="0.1.0",
    description="Deepfake detection by perceptual forgery fidelity, in JAX",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=packages,
    package_dir=MAPPED,
    package_data={
        "deepfidelity_jax": ["scoring/*.j2"],
        "deepfidelity_datasets": ["*/*.md", "*/*.bib", "*/*.txt"],
    },
    install_requires=[
        "absl-py>=2.1",
        "array-record>=0.6",
        "flax>=0.12",
        "fsspec>=2024.2",
        "grain>=0.2.12",
        "importlib_resources>=6.0",  # tensorflow-datasets needs it and does not say so
        "jax>=0.10",
        "jaxtyping>=0.3",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "ml-collections>=1.0",
        "numpy>=2.0",
        "opencv-python-headless>=4.9,<5",  # 5 dropped the bundled face cascades
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.25",
        "pillow>=10.3",
        "safetensors>=0.4",
        "scikit-learn>=1.6",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.9",
    ],
    extras_require={
        "cuda": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
        "beam": ["apache-beam>=2.60"],
        "fast": ["scikit-learn-intelex>=2025.0"],  # the regressor's fit at full size, on x86
        "heif": ["pillow-heif>=0.16"],  # HEIC photographs, as phones take them
        "test": [
            "beartype>=0.19",
            "ipykernel>=6.29",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "pre-commit>=4.0",
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
        ],
        "torch": ["torch>=2.4"],  # for comparing with PyTorch; never needed at run time
    },
    entry_points={"console_scripts": ["deepfidelity=deepfidelity_jax.cli:main"]},
)
