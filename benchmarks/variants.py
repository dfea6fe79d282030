"""Parameters and multiply-adds of every variant, counted from the built network.

`python benchmarks/variants.py`. Multiply-adds are of one image of 224 x 224, without the heads.
"""

from dataclasses import dataclass, replace

from deepfidelity_jax.network.size import count_multiply_adds, count_parameters
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig

SIZE = 224
VARIANTS = {
    "L": SSAAFormerConfig.large(),
    "B": SSAAFormerConfig.base(),
    "S": SSAAFormerConfig.small(),
    "tiny": SSAAFormerConfig.tiny(),
}


@dataclass(frozen=True)
class Row:
    """One network: parameters with and without its heads, multiply-adds of each stage."""

    name: str
    parameters: int
    trunk: int
    stages: list[int]


def count(name: str, config: SSAAFormerConfig, heads: int = 2) -> Row:
    """Count a network with one or both of its heads of `config.num_classes` classes."""
    head = (config.widths[-1] + 1) * config.num_classes
    trunk = count_parameters(config) - 2 * head
    counts = count_multiply_adds(config, SIZE)
    stages = [counts[f"stage{number}"] for number in (1, 2, 3, 4)]
    return Row(name, trunk + heads * head, trunk, stages)


def list_rows() -> list[Row]:
    """SSAAFormer as trained in the paper, and UniFormer as in the ImageNet weights."""
    rows = [count(f"SSAAFormer-{name}", config) for name, config in VARIANTS.items()]
    for name, heads in (("L", 2), ("B", 1), ("S", 1)):
        plain = replace(VARIANTS[name], symmetric=(0, 0, 0, 0), num_classes=1000)
        rows.append(count(f"UniFormer-{name}, {heads} x 1000 classes", plain, heads))
    return rows


def main():
    """Print the table."""
    columns = ("stage 1", "stage 2", "stage 3", "stage 4", "all")
    print(f"{'':31}{'parameters':>11}{'trunk':>12}" + "".join(f"{c:>9}" for c in columns))
    for row in list_rows():
        giga = "".join(f"{count / 1e9:8.2f}G" for count in (*row.stages, sum(row.stages)))
        print(f"{row.name:30}{row.parameters:12,}{row.trunk:12,}{giga}")


if __name__ == "__main__":
    main()
