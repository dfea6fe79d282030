"""SSAAFormer, the network of the paper: UniFormer whose first stage compares the halves of a face.

    images [n, h, w, 3]
      stage 1   patches of 4 x 4   local blocks, mixed with their mirror image   [n, h/4, w/4, c1]
      stage 2   patches of 2 x 2   local blocks                                  [n, h/8, w/8, c2]
      stage 3   patches of 2 x 2   global blocks                               [n, h/16, w/16, c3]
      stage 4   patches of 2 x 2   global blocks                               [n, h/32, w/32, c4]
      BatchNorm, mean and maximum over tokens, heads                             `outputs.Outputs`

Read top-down: the network, a stage, a block and its parts. The maths of token mixing is in
`attention`.

Peng et al., "DeepFidelity", arXiv 2312.04961. Li et al., "UniFormer", arXiv 2201.09450.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Real

from deepfidelity_jax.network.attention import attend, mirror_mix
from deepfidelity_jax.network.kernels.blocks import stack
from deepfidelity_jax.network.layers import (
    BatchNorm,
    DepthwiseConv,
    MaskHead,
    OrdinalHead,
    conv1x1,
    linear,
    max_over_tokens,
)
from deepfidelity_jax.network.outputs import Outputs


@dataclass(frozen=True)
class SSAAFormerConfig:
    """The shape of the network. ValueError where it is impossible.

    Attributes:
        depths: blocks in each of the four stages.
        widths: channels in each stage.
        head_dim: channels of an attention head in stages 3 and 4.
        mlp_ratio: hidden over outer channels of the MLPs.
        layer_scale: initial layer scale of every residual branch; None for a network without.
        symmetric: how many leading blocks of each stage mix with their mirror image. None is
            the paper's choice, all of the first stage; (0, 0, 0, 0) is the plain UniFormer.
        num_classes: classes of the class head and the token head; 0 is fake, 1 is real.
        drop_path: rate at which the last block drops a residual branch, per sample; rates rise
            linearly from 0 in the first block.
        fidelity_head: adds a linear head that predicts the fidelity score given each class.
        ordinal_head: adds a head that predicts whether fidelity is above each of some thresholds.
        mask_heads: adds linear heads to stages 2 and 3 that say where a forgery is. They teach
            those stages to look at seams; scoring does not use them.
        dtype: dtype of the computation; parameters, statistics and outputs are float32.
    """

    depths: Sequence[int]
    widths: Sequence[int]
    head_dim: int = 64
    mlp_ratio: int = 4
    layer_scale: float | None = None
    symmetric: Sequence[int] | None = None
    num_classes: int = 2
    drop_path: float = 0.0
    fidelity_head: bool = False
    ordinal_head: bool = False
    mask_heads: bool = False
    dtype: str = "float32"

    def __post_init__(self):
        symmetric = (self.depths[0], 0, 0, 0) if self.symmetric is None else self.symmetric
        # Tuples, so that a configuration read from JSON equals the one written.
        for name, value in zip(
            ("depths", "widths", "symmetric"), (self.depths, self.widths, symmetric), strict=True
        ):
            if len(value) != 4:
                raise ValueError(f"{name} has {len(value)} numbers, {value}: give one per stage, 4")
            object.__setattr__(self, name, tuple(value))
        for stage, (s, d) in enumerate(zip(self.symmetric, self.depths, strict=True), start=1):
            if not 0 <= s <= d:
                raise ValueError(f"symmetric asks for {s} of the {d} blocks in stage {stage}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path is {self.drop_path}: give a share from 0 to below 1")
        for width in self.widths[2:]:
            if width % self.head_dim:
                raise ValueError(f"width {width} is not a multiple of head_dim {self.head_dim}")

    @classmethod
    def large(cls, **changes) -> "SSAAFormerConfig":
        """SSAAFormer-L of the paper: 98.8 M parameters, 19.68 G multiply-adds at 224."""
        defaults = {"head_dim": 64, "layer_scale": 1e-6, "drop_path": 0.4}
        return cls(
            **{"depths": (5, 10, 24, 7), "widths": (128, 192, 448, 640), **defaults, **changes}
        )

    @classmethod
    def base(cls, **changes) -> "SSAAFormerConfig":
        """SSAAFormer on UniFormer-B's trunk: 49.3 M parameters, 8.25 G multiply-adds at 224."""
        defaults = {"head_dim": 32, "drop_path": 0.3}
        return cls(
            **{"depths": (5, 8, 20, 7), "widths": (64, 128, 320, 512), **defaults, **changes}
        )

    @classmethod
    def small(cls, **changes) -> "SSAAFormerConfig":
        """SSAAFormer on UniFormer-S's trunk: 21.0 M parameters, 3.63 G multiply-adds at 224."""
        defaults = {"head_dim": 32, "drop_path": 0.1}
        return cls(**{"depths": (3, 4, 8, 3), "widths": (64, 128, 320, 512), **defaults, **changes})

    @classmethod
    def tiny(cls, **changes) -> "SSAAFormerConfig":
        """For CPUs and tests: 1.3 M parameters, 0.09 G multiply-adds at 128."""
        defaults = {"head_dim": 32}
        return cls(**{"depths": (1, 1, 3, 1), "widths": (48, 64, 128, 192), **defaults, **changes})


class SSAAFormer(nn.Module):
    """Four stages, BatchNorm, pooling over tokens and the heads.

    Equal blocks of a stage are stacked: `stageN/symmetric` and `stageN/plain` hold their parameters
    with a leading block axis, in the order in which the blocks run. The folded form has one block
    under each of `stageN/symmetric_0` and so on.

    Attributes:
        config: the shape of the network.
        remat: keep only each block's input for the gradient, to save memory.
        folded: the form for inference, with the variables that `fold.fold` returns.
    """

    config: SSAAFormerConfig
    remat: bool = False
    folded: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"], *, train: bool) -> Outputs:
        """Score face crops, as `normalise` returns them; h and w are multiples of 32.

        With `train`, BatchNorm uses and updates batch statistics, and drop path needs a 'dropout'
        key. ValueError for other sizes.
        """
        config, (h, w) = self.config, images.shape[1:3]
        if h % 32 or w % 32 or not h or not w:
            raise ValueError(f"images of {h}x{w} cannot be scored: sides must be multiples of 32")
        rates = np.linspace(0.0, config.drop_path, sum(config.depths), dtype=np.float32)
        x, done, masks = images.astype(config.dtype), 0, []
        for number, depth in enumerate(config.depths, start=1):
            flags = (train, self.remat, self.folded)
            stage = Stage(config, number, *flags, name=f"stage{number}")
            x, done = stage(x, jnp.asarray(rates[done : done + depth])), done + depth
            if config.mask_heads and number in (2, 3) and not self.folded:
                masks.append(MaskHead(config.num_classes, name=f"mask_head{number}")(x))

        x = BatchNorm(train, jnp.float32, name="norm")(x)
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        mean = tokens.mean(axis=1)
        features = mean + 0.5 * max_over_tokens(tokens)
        classes = config.num_classes
        return Outputs(
            features=features,
            class_logits=linear(classes, "head")(mean),
            token_logits=linear(classes, "aux_head")(tokens),
            fidelity=linear(2, "fidelity_head")(features) if config.fidelity_head else None,
            ordinal_logits=(
                OrdinalHead(name="ordinal_head")(features) if config.ordinal_head else None
            ),
            mask_logits=tuple(masks),
        )


class Stage(nn.Module):
    """Patch embedding, then the symmetric blocks, then the plain ones."""

    config: SSAAFormerConfig
    number: int
    train: bool
    remat: bool
    folded: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], rates: Float[Array, "depth"]
    ) -> Float[Array, "n _ _ d"]:
        """Run the stage; `rates` are the drop-path rates of its blocks."""
        config, i = self.config, self.number - 1
        symmetric = config.symmetric[i]
        x = PatchEmbed(config.widths[i], 4 if i == 0 else 2, config.dtype, name="patch_embed")(x)
        x = self._run_blocks(x, rates[:symmetric], symmetric=True)
        return self._run_blocks(x, rates[symmetric:], symmetric=False)

    def _run_blocks(self, x, rates, symmetric):
        """Run equal blocks in sequence: stacked, or if folded, each with its own parameters."""
        name = "symmetric" if symmetric else "plain"
        arguments = (self.config, self.number <= 2, symmetric, self.train, self.folded)
        if self.folded:
            for i, rate in enumerate(rates):
                x, _ = Block(*arguments, name=f"{name}_{i}")(x, rate)
            return x
        if not len(rates):
            return x
        return stack(Block, len(rates), remat=self.remat)(*arguments, name=name)(x, rates)[0]


class PatchEmbed(nn.Module):
    """Project each patch of pixels to `width` channels, then LayerNorm."""

    width: int
    patch: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n _ _ d"]:
        """A convolution whose stride is its size, as one matrix product."""
        x = cut_patches(x, self.patch)
        x = conv1x1(self.width, "proj", self.dtype)(x)
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)


class Block(nn.Module):
    """Position term, token mixing and MLP, each a residual branch.

        x = x + depthwise3x3(x)
        x = x + drop_path(gamma_1 * mirror(mix(norm(x))))
        x = x + drop_path(gamma_2 * MLP(norm(x)))

    Local blocks (stages 1 and 2) mix by a depthwise 5x5 convolution after BatchNorm, global ones
    (stages 3 and 4) by self-attention after LayerNorm. `mirror` is `mirror_mix` in a symmetric
    block and nothing in a plain one. In a folded block BatchNorm and layer scale are part of the
    projections beside them.
    """

    config: SSAAFormerConfig
    local: bool
    symmetric: bool
    train: bool
    folded: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], rate: Float[Array, ""]
    ) -> tuple[Float[Array, "n h w c"], None]:
        """Run the block with this drop-path rate; the None is for `stack`, which scans over it."""
        x = x + DepthwiseConv(3, name="pos_embed")(x)
        mix = self._convolve if self.local else self._attend
        mixed = mix(self._norm("norm1", x), self._layer_scale("gamma_1", x))
        x = x + self._drop_path(mixed, rate)
        mlp = MLP(self.config, conv1x1 if self.local else linear, name="mlp")
        mapped = mlp(self._norm("norm2", x), self._layer_scale("gamma_2", x))
        return x + self._drop_path(mapped, rate), None

    def _norm(self, name, x):
        if self.local and self.folded:
            return x
        if self.local:
            return BatchNorm(self.train, self.config.dtype, name=name)(x)
        return nn.LayerNorm(epsilon=1e-6, dtype=self.config.dtype, name=name)(x)

    def _convolve(self, x, gamma):
        c, dtype = x.shape[-1], self.config.dtype
        x = DepthwiseConv(5, name="attn")(conv1x1(c, "conv1", dtype)(x))
        return self._mirror(conv1x1(c, "conv2", dtype)(x, gamma))

    def _attend(self, x, gamma):
        return Attention(self.config, self._mirror, name="attn")(x, gamma)

    def _mirror(self, x):
        # The paper mixes before the last projection. Mixing after it gives the same result, because
        # the projection treats all positions alike and the two weights add up to 1.
        if not self.symmetric:
            return x
        return mirror_mix(x, self.param("w", nn.initializers.ones, (2,)))

    def _layer_scale(self, name, x):
        start = self.config.layer_scale
        if start is None or self.folded:
            return None
        return self.param(name, nn.initializers.constant(start), (x.shape[-1],))

    def _drop_path(self, x, rate):
        """Drop a sample's branch with probability `rate`, and divide kept ones by 1 - rate."""
        if not self.train or not self.config.drop_path:
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, (x.shape[0], 1, 1, 1))
        return x * (keep / (1 - rate)).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention over all positions, `mirror` applied to the projected map."""

    config: SSAAFormerConfig
    mirror: Callable

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], gamma: Float[Array, "c"] | None
    ) -> Float[Array, "n h w c"]:
        """Attend, project, scale by `gamma`, mirror."""
        n, h, w, c = x.shape
        dtype, d = self.config.dtype, self.config.head_dim
        qkv = linear(3 * c, "qkv", dtype)(x).reshape(n, h * w, 3 * (c // d), d)
        x = attend(*jnp.split(qkv, 3, axis=2)).reshape(n, h, w, c)
        return self.mirror(linear(c, "proj", dtype)(x, gamma))


class MLP(nn.Module):
    """Widen, exact GELU, narrow; `layer` is `conv1x1` or `linear`, initialised differently."""

    config: SSAAFormerConfig
    layer: Callable

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], gamma: Float[Array, "c"] | None
    ) -> Float[Array, "n h w c"]:
        """Map each position, and scale the result by `gamma`."""
        c, hidden, dtype = x.shape[-1], self.config.mlp_ratio * x.shape[-1], self.config.dtype
        x = self.layer(hidden, "fc1", dtype)(x, activated=True)
        return self.layer(c, "fc2", dtype)(x, gamma)


def normalise(images: Real[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Pixels 0..255 to [-1, 1], as in the official code (mean = std = 0.5)."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def cut_patches(x: Float[Array, "n h w c"], p: int) -> Float[Array, "n _ _ d"]:
    """Each patch of p x p positions as one row of d = p * p * c numbers."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // p, p, w // p, p, c).swapaxes(2, 3)
    return x.reshape(n, h // p, w // p, p * p * c)
