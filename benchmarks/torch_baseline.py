"""SSAAFormer and UniFormer in PyTorch, with the official parameter names: our reference.

Tests compare outputs, gradients and updates with it; speed is compared with it, eager or under
`torch.compile`, in either memory format. Needs `pip install -e '.[torch]'`.

    model = build("large").eval()
    model(images).features  # images float32 [n, 3, h, w] in [-1, 1]
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VARIANTS = {
    "large": {
        "depths": (5, 10, 24, 7),
        "widths": (128, 192, 448, 640),
        "head_dim": 64,
        "layer_scale": 1e-6,
    },
    "base": {"depths": (5, 8, 20, 7), "widths": (64, 128, 320, 512), "head_dim": 32},
    "small": {"depths": (3, 4, 8, 3), "widths": (64, 128, 320, 512), "head_dim": 32},
    "tiny": {"depths": (1, 1, 3, 1), "widths": (48, 64, 128, 192), "head_dim": 32},
}


class Outputs(NamedTuple):
    """Features [n, d], class logits [n, k], token logits [n, t, k] (None without that head)."""

    features: Tensor
    class_logits: Tensor
    token_logits: Tensor | None

    @property
    def logits(self) -> Tensor:
        """Both heads together, as used in evaluation."""
        if self.token_logits is None:
            return self.class_logits
        return self.class_logits + 0.5 * self.token_logits.amax(dim=1)


class SSAAFormer(nn.Module):
    """Four stages, batch norm, the class head on the token mean and the head on each token.

    Args:
        depths: blocks of each stage.
        widths: channels of each stage.
        head_dim: channels of an attention head.
        layer_scale: start of gamma_1 and gamma_2; None has none.
        symmetric: how many leading blocks of each stage mix with their mirror image; None is all
            of the first stage, (0, 0, 0, 0) is the plain UniFormer.
        num_classes: of each head.
        aux_head: whether there is a head on each token.
        drop_path: rate of the last block, rising linearly from 0.
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        head_dim: int,
        layer_scale: float | None = None,
        symmetric: Sequence[int] | None = None,
        num_classes: int = 2,
        aux_head: bool = True,
        drop_path: float = 0.0,
    ):
        super().__init__()
        symmetric = (depths[0], 0, 0, 0) if symmetric is None else symmetric
        rates = torch.linspace(0, drop_path, sum(depths)).tolist()
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            channels, patch = (3, 4) if i == 0 else (widths[i - 1], 2)
            setattr(self, f"patch_embed{i + 1}", PatchEmbed(channels, width, patch))
            options = {"layer_scale": layer_scale, "head_dim": head_dim}
            block = LocalBlock if i < 2 else GlobalBlock
            blocks = [
                block(width, mirrored=j < symmetric[i], drop_path=rates.pop(0), **options)
                for j in range(depth)
            ]
            setattr(self, f"blocks{i + 1}", nn.ModuleList(blocks))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)
        self.aux_head = nn.Linear(widths[-1], num_classes) if aux_head else None
        self.apply(_start)

    def forward(self, images: Tensor) -> Outputs:
        """Score images [n, 3, h, w], sides multiples of 32."""
        x = images
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"patch_embed{stage}")(x)
            for block in getattr(self, f"blocks{stage}"):
                x = block(x)
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        mean = tokens.mean(dim=1)
        return Outputs(
            features=mean + 0.5 * tokens.amax(dim=1),
            class_logits=self.head(mean),
            token_logits=None if self.aux_head is None else self.aux_head(tokens),
        )


def build(variant: str, **changes) -> SSAAFormer:
    """A fresh model of a variant, of `VARIANTS`; `changes` are options of `SSAAFormer`."""
    return SSAAFormer(**{**VARIANTS[variant], **changes})


class PatchEmbed(nn.Module):
    """Non-overlapping patches to channels, then LayerNorm over channels."""

    def __init__(self, channels: int, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, width, h / patch, w / patch], in the memory format of x."""
        x = self.proj(x)
        last = x.is_contiguous(memory_format=torch.channels_last)
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x if last else x.contiguous()


class LocalBlock(nn.Module):
    """Stages 1 and 2: 1x1, depthwise 5x5 and 1x1 convolution in place of attention."""

    def __init__(
        self,
        width: int,
        *,
        mirrored: bool,
        drop_path: float,
        layer_scale: float | None,
        head_dim: int,
    ):
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 1)
        self.attn = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = ConvMLP(width, 4 * width)
        self.drop_path = DropPath(drop_path)
        self.w = nn.Parameter(torch.ones(2)) if mirrored else None
        self.gamma_1, self.gamma_2 = _layer_scales(layer_scale, (1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same shape."""
        x = x + self.pos_embed(x)
        a = self.conv2(_mirror(self.attn(self.conv1(self.norm1(x))), self.w))
        x = x + self.drop_path(_scaled(a, self.gamma_1))
        return x + self.drop_path(_scaled(self.mlp(self.norm2(x)), self.gamma_2))


class GlobalBlock(nn.Module):
    """Stages 3 and 4: self-attention over all positions."""

    def __init__(
        self,
        width: int,
        *,
        mirrored: bool,
        drop_path: float,
        layer_scale: float | None,
        head_dim: int,
    ):
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, head_dim)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, 4 * width)
        self.drop_path = DropPath(drop_path)
        self.w = nn.Parameter(torch.ones(2)) if mirrored else None
        self.gamma_1, self.gamma_2 = _layer_scales(layer_scale, (width,))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same shape."""
        x = x + self.pos_embed(x)
        shape = x.shape
        x = x.flatten(2).transpose(1, 2)
        a = self.attn(self.norm1(x), shape, self.w)
        x = x + self.drop_path(_scaled(a, self.gamma_1))
        x = x + self.drop_path(_scaled(self.mlp(self.norm2(x)), self.gamma_2))
        return x.transpose(1, 2).reshape(shape)


class Attention(nn.Module):
    """Multi-head self-attention; its map may be mixed with its mirror image."""

    def __init__(self, width: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, shape: torch.Size, w: Tensor | None) -> Tensor:
        """[n, t, c] -> [n, t, c]; `shape` is [n, c, h, w] of the map, for its mirror image."""
        n, t, c = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, c // self.head_dim, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)
        if w is not None:
            x = _mirror(x.transpose(1, 2).reshape(shape), w).flatten(2).transpose(1, 2)
        return self.proj(x)


class MLP(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., c] -> [..., c]."""
        return self.fc2(F.gelu(self.fc1(x)))


class ConvMLP(nn.Module):
    """The MLP as 1x1 convolutions."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c, h, w]."""
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Drops the branch of a sample in training."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Zeros for dropped samples; the others are scaled up to compensate."""
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * (keep / (1 - self.rate))


def _mirror(x: Tensor, w: Tensor | None) -> Tensor:
    """The map [n, c, h, w] blended with its left-right mirror image."""
    if w is None:
        return x
    s = w.softmax(dim=0)
    return s[0] * x + s[1] * x.flip(3)


def _layer_scales(start, shape):
    if start is None:
        return None, None
    return nn.Parameter(torch.full(shape, start)), nn.Parameter(torch.full(shape, start))


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else gamma * x


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
