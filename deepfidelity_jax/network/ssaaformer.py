"""SSAAFormer: UniFormer whose first stage compares the two halves of the face."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, UInt8

from deepfidelity_jax.network.attention import mirror_mix
from deepfidelity_jax.network.kernels.attention import ATTENDED, attend
from deepfidelity_jax.network.kernels.norms import STATISTICS
from deepfidelity_jax.network.layers import BatchNorm, DepthwiseConv, conv1x1, linear

# What a block keeps for its gradient. The rest is cheap, and is computed again rather than stored
# and read back. Two CPU cores, 3.3 M parameters, batch 32 at 128: a step takes 1.22 s of CPU
# instead of 1.65 s and 288 MiB instead of 793.
KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(STATISTICS, ATTENDED),
)


@dataclass(frozen=True)
class SSAAFormerConfig:
    """What the network is; how it is computed (unrolled, rematerialised) is the module's matter.

    Attributes:
        depths: blocks in each of the four stages.
        widths: channels in each stage.
        head_dim: channels of one attention head in stages 3 and 4.
        mlp_ratio: hidden over outer channels of the MLPs.
        layer_scale: start of the learnt scale of every residual branch; None has no such scale.
        symmetric: how many leading blocks of each stage mix with their mirror image. None is
            the paper's choice, all of the first stage; (0, 0, 0, 0) is the plain UniFormer.
        num_classes: of the class head and of the token head; 0 is fake, 1 is real.
        drop_path: share of samples whose residual branch is dropped in the last block; the
            first block drops none and the share grows linearly between.
        fidelity_head: adds a linear head for the fidelity score itself, in either class.
        dtype: of the computation; parameters, statistics and outputs are float32.
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
    dtype: str = "float32"

    def __post_init__(self):
        symmetric = (self.depths[0], 0, 0, 0) if self.symmetric is None else self.symmetric
        # Tuples, so that a configuration read from JSON is equal to the one written.
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
        own = {"head_dim": 64, "layer_scale": 1e-6, "drop_path": 0.4}
        return cls(**{"depths": (5, 10, 24, 7), "widths": (128, 192, 448, 640), **own, **changes})

    @classmethod
    def base(cls, **changes) -> "SSAAFormerConfig":
        """On the trunk of UniFormer-B: 49.3 M parameters, 8.25 G multiply-adds at 224."""
        own = {"head_dim": 32, "drop_path": 0.3}
        return cls(**{"depths": (5, 8, 20, 7), "widths": (64, 128, 320, 512), **own, **changes})

    @classmethod
    def small(cls, **changes) -> "SSAAFormerConfig":
        """On the trunk of UniFormer-S: 21.0 M parameters, 3.63 G multiply-adds at 224."""
        own = {"head_dim": 32, "drop_path": 0.1}
        return cls(**{"depths": (3, 4, 8, 3), "widths": (64, 128, 320, 512), **own, **changes})

    @classmethod
    def tiny(cls, **changes) -> "SSAAFormerConfig":
        """For CPUs and tests: 1.3 M parameters, 0.09 G multiply-adds at 128."""
        own = {"head_dim": 32}
        return cls(**{"depths": (1, 1, 3, 1), "widths": (48, 64, 128, 192), **own, **changes})


class Outputs(NamedTuple):
    """What the network says of n images; float32, class 0 fake and 1 real.

    Attributes:
        features: [n, d] mean over tokens + 0.5 * max over tokens, what the regressor is fitted on.
        class_logits: [n, classes] of the token mean.
        token_logits: [n, tokens, classes] of each token, row by row.
        fidelity: [n, 2] of the auxiliary fidelity head, None where there is none: what the fidelity
            is if the face is fake, and if it is real.
    """

    features: Float[Array, "n d"]
    class_logits: Float[Array, "n k"]
    token_logits: Float[Array, "n t k"]
    fidelity: Float[Array, "n 2"] | None

    @property
    def logits(self) -> Float[Array, "n k"]:
        """Both heads together, as used in evaluation: class + 0.5 * max over tokens."""
        return self.class_logits + 0.5 * largest(self.token_logits)


class SSAAFormer(nn.Module):
    """Four stages, each a patch embedding and its blocks; batch norm, pooling and the heads.

    Equal blocks of a stage are one stack: their parameters carry a leading block axis, under
    `stageN/symmetric` and `stageN/plain`, in the order in which they run. In the folded form each
    block has its own, under `stageN/symmetric_0` and so on.

    Attributes:
        config: the network.
        unroll: run stacked blocks as straight code instead of a loop. Same parameters, same
            values. On CPU it pays nowhere: SSAAFormer-L forward 2.07 s against 2.12 s of CPU for
            four images, compiled in 18 s against 3 s; a training step of tiny is slower by 10%.
        remat: keep only the input of each block for the gradient and compute the rest again.
        folded: the form for inference, whose variables `folding.fold` makes.
    """

    config: SSAAFormerConfig
    unroll: bool = False
    remat: bool = False
    folded: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"], *, train: bool) -> Outputs:
        """Score face crops normalised as in training.

        With `train`, BatchNorm uses and updates batch statistics, and a 'dropout' key is
        needed where `drop_path` is above 0.

        Raises:
            ValueError: height or width is not a multiple of 32.
        """
        config, (h, w) = self.config, images.shape[1:3]
        if h % 32 or w % 32 or not h or not w:
            raise ValueError(f"images of {h}x{w} cannot be scored: sides must be multiples of 32")
        rates = np.linspace(0.0, config.drop_path, sum(config.depths), dtype=np.float32)
        x, done = images.astype(config.dtype), 0
        for number, depth in enumerate(config.depths, start=1):
            how = (train, self.unroll, self.remat, self.folded)
            stage = Stage(config, number, *how, name=f"stage{number}")
            x, done = stage(x, jnp.asarray(rates[done : done + depth])), done + depth

        x = BatchNorm(train, jnp.float32, name="norm")(x)
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        mean = tokens.mean(axis=1)
        features = mean + 0.5 * largest(tokens)
        d, classes = x.shape[-1], config.num_classes
        return Outputs(
            features=features,
            class_logits=linear(d, classes, "head")(mean),
            token_logits=linear(d, classes, "aux_head")(tokens),
            fidelity=linear(d, 2, "fidelity_head")(features) if config.fidelity_head else None,
        )


class Stage(nn.Module):
    """Patch embedding, then the symmetric blocks, then the plain ones."""

    config: SSAAFormerConfig
    number: int
    train: bool
    unroll: bool
    remat: bool
    folded: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], rates: Float[Array, "depth"]
    ) -> Float[Array, "n _ _ d"]:
        """Run the stage; `rates` are the drop path rates of its blocks."""
        config, i = self.config, self.number - 1
        symmetric = config.symmetric[i]
        x = PatchEmbed(config.widths[i], 4 if i == 0 else 2, config.dtype, name="patch_embed")(x)
        x = self._run_blocks(x, rates[:symmetric], symmetric=True)
        return self._run_blocks(x, rates[symmetric:], symmetric=False)

    def _run_blocks(self, x, rates, symmetric):
        """Scan over equal blocks; folded, one after the other."""
        name = "symmetric" if symmetric else "plain"
        how = (self.config, self.number <= 2, symmetric, self.train, self.folded)
        # Out of a stack every block's kernels are copied first: SSAAFormer-L on two CPU cores, four
        # images, 1.50 s of the cores with a loop over a folded stack and 1.40 s in this way.
        if self.folded:
            for i, rate in enumerate(rates):
                x, _ = Block(*how, name=f"{name}_{i}")(x, rate)
            return x
        if not len(rates):
            return x
        # Without the loop XLA fuses depthwise sums across residual connections of the gradient and
        # compiles for minutes at full depth.
        block = nn.remat(Block, prevent_cse=False, policy=None if self.remat else KEPT)
        scan = nn.scan(
            block,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            length=len(rates),
            unroll=len(rates) if self.unroll else 1,
        )
        return scan(*how, name=name)(x, rates)[0]


class PatchEmbed(nn.Module):
    """Non-overlapping patches to channels: one matrix product, then LayerNorm."""

    width: int
    patch: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n _ _ d"]:
        """Rearrange pixels so that each patch is one row, and project it."""
        x = cut_patches(x, self.patch)
        x = conv1x1(x.shape[-1], self.width, "proj", self.dtype)(x)
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x)


class Block(nn.Module):
    """Position term, token mixing, MLP; each a residual branch.

    Local blocks (stages 1 and 2) mix with a depthwise 5x5 convolution after BatchNorm, global
    ones (stages 3 and 4) with self-attention after LayerNorm. A symmetric block blends that
    map with its mirror image before the last projection. In a folded block BatchNorm and layer
    scale are part of the projections beside them.
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
        """Run the block with this drop path rate; the None is what `scan` collects."""
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
        x = DepthwiseConv(5, name="attn")(conv1x1(c, c, "conv1", dtype)(x))
        return self._mirror(conv1x1(c, c, "conv2", dtype)(x, gamma))

    def _attend(self, x, gamma):
        return Attention(self.config, self._mirror, name="attn")(x, gamma)

    def _mirror(self, x):
        # Of the projected map, which is the same as before the projection: that treats all
        # positions alike, and the two weights add up to 1. Before it, XLA computes the depthwise
        # sum twice, once for the mirror image: SSAAFormer-L forward on two CPU cores, four images,
        # 1.79 s of the cores before and 1.69 s after.
        if not self.symmetric:
            return x
        return mirror_mix(x, self.param("w", nn.initializers.ones, (2,)))

    def _layer_scale(self, name, x):
        start = self.config.layer_scale
        if start is None or self.folded:
            return None
        return self.param(name, nn.initializers.constant(start), (x.shape[-1],))

    def _drop_path(self, x, rate):
        """Drop the branch of a sample with probability `rate`; the kept ones make up for it."""
        if not self.train or not self.config.drop_path:
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, (x.shape[0], 1, 1, 1))
        return x * (keep / (1 - rate)).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention over all positions; `mirror` is applied to the projected map."""

    config: SSAAFormerConfig
    mirror: Callable

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], gamma: Float[Array, "c"] | None
    ) -> Float[Array, "n h w c"]:
        """Attend, project and scale by `gamma`, mirror."""
        n, h, w, c = x.shape
        dtype, d = self.config.dtype, self.config.head_dim
        qkv = linear(c, 3 * c, "qkv", dtype)(x).reshape(n, h * w, 3 * (c // d), d)
        x = attend(*jnp.split(qkv, 3, axis=2)).reshape(n, h, w, c)
        return self.mirror(linear(c, c, "proj", dtype)(x, gamma))


class MLP(nn.Module):
    """Widen, exact GELU, narrow; `layer` says how the two products are started."""

    config: SSAAFormerConfig
    layer: Callable

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], gamma: Float[Array, "c"] | None
    ) -> Float[Array, "n h w c"]:
        """Apply to each position, the result scaled by `gamma`."""
        c, hidden, dtype = x.shape[-1], self.config.mlp_ratio * x.shape[-1], self.config.dtype
        x = self.layer(c, hidden, "fc1", dtype)(x, activated=True)
        return self.layer(hidden, c, "fc2", dtype)(x, gamma)


def normalise(images: UInt8[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Bytes to [-1, 1], as the official code does (mean = std = 0.5)."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def cut_patches(x: Float[Array, "n h w c"], p: int) -> Float[Array, "n _ _ d"]:
    """Each patch of p x p positions as one row of d = p * p * c numbers."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // p, p, w // p, p, c).swapaxes(2, 3)
    return x.reshape(n, h // p, w // p, p * p * c)


def largest(tokens: Float[Array, "n t d"]) -> Float[Array, "n d"]:
    """The maximum over tokens; the first of equals has the gradient, as in PyTorch."""
    # The gradient of `max` compares the numbers with their maximum. Where XLA computes both anew in
    # different programs, rounding can leave none equal, and the gradient is 0 / 0.
    index = lax.stop_gradient(tokens).argmax(axis=1, keepdims=True)
    return jnp.take_along_axis(tokens, index, axis=1)[:, 0]
