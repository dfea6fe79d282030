"""The quality measure a configuration names."""

from dataclasses import dataclass, field
from pathlib import Path

from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import digest
from deepfidelity_jax.images import pictures
from deepfidelity_jax.quality import iso29794, table
from deepfidelity_jax.workdir import fingerprint

MEASURES = ("iso", "ser_fiq", "csv", "none")
NO_EYES = "no eyes known to align a face by"  # why ser_fiq gives one no quality


@dataclass(frozen=True)
class Measure:
    """The quality measure a configuration names, as a picklable function of an encoded face.

    name: one of `quality.MEASURES`. scores: for `csv`, quality by path or file name. weights: for
    `ser_fiq`, the path of the ArcFace checkpoint; digest: of that file.
    """

    name: str
    scores: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    digest: str = ""

    @classmethod
    def from_config(cls, own: ConfigDict) -> "Measure":
        """The measure of `config.quality`; InputError for values that cannot be."""
        if own.measure not in MEASURES:
            choices = ", ".join(MEASURES)
            raise InputError(f"config.quality.measure is {own.measure!r}: one of {choices}")
        if own.measure == "csv":
            return cls("csv", scores=table.read_scores(own.csv))
        if own.measure != "ser_fiq":
            return cls(own.measure)
        if not Path(own.weights).is_file():
            raise InputError(
                f"config.quality.weights is {own.weights!r}, which is no file: ser_fiq needs your "
                "ArcFace checkpoint, an iResNet-50 or -100 of insightface's PyTorch code"
            )
        return cls("ser_fiq", weights=own.weights, digest=digest(own.weights))

    def to_json(self) -> dict[str, str]:
        """Plain values, for metadata and fingerprints: which measure, by what it was given."""
        values = {"measure": self.name, "scores": fingerprint(self.scores)}
        return values | ({"weights": self.digest} if self.weights else {})

    def __call__(self, image: bytes, path: str) -> float:
        """Raw quality of a face; NaN where `csv` has no row for its source.

        NaN for `ser_fiq` too: `rate` measures staged faces, since a network wants many at once.
        """
        if self.name == "ser_fiq":
            return float("nan")
        if self.name == "iso":
            return iso29794.measure(pictures.decode_image(image))
        if self.name == "csv":
            return self.scores.get(path, float("nan"))
        return 0.0
