"""The network that a configuration describes."""

from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig


def build_model(config: ConfigDict) -> SSAAFormer:
    """The network of a configuration. InputError for an unknown variant or an impossible shape."""
    options = config.model
    variants = ("large", "base", "small", "tiny")
    if options.variant not in variants:
        raise InputError(
            f"config.model.variant is {options.variant!r}: one of {', '.join(variants)}"
        )
    if options.image_size <= 0 or options.image_size % 32:
        raise InputError(f"config.model.image_size is {options.image_size}: give a multiple of 32")
    if options.dtype not in ("float32", "bfloat16"):
        raise InputError(f"config.model.dtype is {options.dtype!r}: float32 or bfloat16")
    variant = getattr(SSAAFormerConfig, options.variant)
    depths = variant().depths
    symmetric = tuple(d if s < 0 else s for s, d in zip(options.symmetric, depths, strict=True))
    try:
        return SSAAFormer(
            variant(
                symmetric=symmetric,
                drop_path=options.drop_path,
                dtype=options.dtype,
                fidelity_head=config.train.fidelity_weight > 0,
                ordinal_head=config.train.get("ordinal_weight", 0) > 0,  # 0 before it was an option
                mask_heads=config.train.get("mask_weight", 0) > 0,
            ),
            remat=config.train.remat,
        )
    except ValueError as error:
        raise InputError(f"config.model: {error}") from None
