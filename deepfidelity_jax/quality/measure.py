"""The quality measure that a configuration names: one call for all, with the face's landmarks.

iso       computed from the picture (iso29794.py)
learned   computed from the picture by an order learnt from degraded ones (learned.py)
trace     computed by the network that comes with the package (trace.py)
ser_fiq   computed by a network with the user's weights (ser_fiq.py)
csv       looked up in the user's table (table.py)
none      the same for every face
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict
from numpy import ndarray

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import digest, fingerprint
from deepfidelity_jax.images import pictures
from deepfidelity_jax.quality import iso29794, learned, table
from deepfidelity_jax.weight_files import packed

MEASURES = ("iso", "learned", "trace", "ser_fiq", "csv", "none")
BY_NETWORK = ("trace", "ser_fiq")  # these want many faces at once
CHANGED = "the quality measure `{}` was that of another version"
NO_EYES = "no eyes known to align a face by"  # why ser_fiq gives a face no quality

Landmarks = Float32[ndarray, "5 2"]  # as in `faces.detection.Face`, in pixels of the crop


def find_weights(given: str, workdir: Path) -> Path | None:
    """The ArcFace checkpoint: where `config.quality.weights` says, or of that name in the workdir.

    Only the user may put it into the workdir: it is not ours to copy.
    """
    places = Path(given), workdir / Path(given).name
    return next((place for place in places if place.is_file()), None)


@dataclass(frozen=True)
class Measure:
    """A quality measure, as a picklable function of an encoded face.

    name: one of MEASURES. scores: for `csv`, quality by path. weights: for `ser_fiq`, the path of
    the ArcFace checkpoint. digest: of that file, or of what `learned` or `trace` goes by.
    uses_landmarks: whether `iso` looks for the face where its landmarks are; records of earlier
    versions were measured without them.
    """

    name: str
    scores: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    digest: str = ""
    uses_landmarks: bool = True

    @classmethod
    def from_config(cls, own: ConfigDict) -> "Measure":
        """The measure of `config.quality`; InputError for values that cannot be."""
        if own.measure not in MEASURES:
            choices = ", ".join(MEASURES)
            raise InputError(f"config.quality.measure is {own.measure!r}: one of {choices}")
        if own.measure == "csv":
            return cls("csv", scores=table.read_scores(own.csv))
        if own.measure == "learned":
            return cls("learned", digest=learned.digest_order())
        if own.measure == "trace":
            return cls("trace", digest=digest(packed.BUNDLED / packed.WEIGHTS))
        if own.measure != "ser_fiq":
            return cls(own.measure)
        if not Path(own.weights).is_file():
            raise InputError(
                f"config.quality.weights is {own.weights!r}, which is no file: ser_fiq needs your "
                "ArcFace checkpoint, an iResNet-50 or -100 of insightface's PyTorch code, there or "
                "in the workdir"
            )
        return cls("ser_fiq", weights=own.weights, digest=digest(own.weights))

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> "Measure":
        """The measure that `note` described, without the scores and the weights it had."""
        return cls(
            note["measure"],
            digest=note.get("weights", ""),
            uses_landmarks=note.get("landmarks", False),
        )

    def to_json(self) -> dict[str, str]:
        """What the configuration chose, as plain values; records are named by them."""
        values = {"measure": self.name, "scores": fingerprint(self.scores)}
        return values | ({"weights": self.digest} if self.digest else {})

    def note(self) -> dict[str, Any]:
        """How faces were measured, as plain values for the metadata of records."""
        return self.to_json() | (
            {"landmarks": True} if self.name == "iso" and self.uses_landmarks else {}
        )

    def __call__(self, image: bytes, landmarks: Landmarks, path: str = "") -> float:
        """Raw quality of an encoded face, high is good; `path` is its source, for `csv`.

        NaN where `csv` has no row for the path, for `learned` of another version, and for those
        BY_NETWORK, which want many faces at once: `records.staging.rate` measures them once they
        are staged.
        """
        if self.can_remeasure:
            return self.of_pixels(pictures.decode_image(image), landmarks)
        if self.name == "csv":
            return self.scores.get(path, float("nan"))
        return 0.0 if self.name == "none" else float("nan")

    def load_network(self) -> Callable[[Sequence[bytes], Sequence[Landmarks]], ndarray] | None:
        """What measures many encoded faces at once; None for a measure without a network.

        InputError if its weights are not what they should be.
        """
        if self.name == "trace":
            from deepfidelity_jax.quality import trace

            if self.digest != digest(packed.BUNDLED / packed.WEIGHTS):
                raise InputError(CHANGED.format(self.name))
            return trace.load()
        if self.name == "ser_fiq":
            from deepfidelity_jax.quality import ser_fiq

            return ser_fiq.load(self.weights)
        return None

    @property
    def can_remeasure(self) -> bool:
        """Whether an altered picture can be measured anew, by `of_pixels`."""
        known = self.name == "learned" and self.digest == learned.digest_order()
        return known or self.name == "iso"

    def of_pixels(self, image: UInt8[ndarray, "h w 3"], landmarks: Landmarks) -> float:
        """Raw quality of a picture that is not encoded; where `can_remeasure`."""
        if self.name == "learned":
            return learned.measure(image)
        return iso29794.measure(image, landmarks if self.uses_landmarks else None)
