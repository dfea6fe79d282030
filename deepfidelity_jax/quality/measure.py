"""The quality measure that a configuration names: one call for all, with the face's landmarks.

iso       computed from the picture (iso29794.py)
learned   computed from the picture by an order learnt from degraded ones (learned.py)
trace     computed by the network that comes with the package (trace.py)
ser_fiq   computed by a network with the user's weights (ser_fiq.py)
csv       looked up in the user's table (table.py)
none      the same for every face
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict
from numpy import ndarray

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import digest, fingerprint
from deepfidelity_jax.images import pictures
from deepfidelity_jax.quality import iso29794, learned, table
from deepfidelity_jax.weight_files import packed

CHANGED = "the quality measure `{}` was that of another version"
NO_EYES = "no eyes known to align a face by"  # why ser_fiq gives a face no quality

Landmarks = Float32[ndarray, "5 2"]  # as in `faces.detection.Face`, in pixels of the crop
Network = Callable[[Sequence[bytes], Sequence[Landmarks]], ndarray]  # of many encoded faces at once


class How(NamedTuple):
    """How a measure works: by one of the two functions, or by neither.

    of_pixels: quality of a picture with the face's landmarks, None if they are not used. network:
    from the path of the user's weights to what measures. file: what the measure goes by, if that
    comes with the package; a network without it needs the user's weights.
    """

    of_pixels: Callable[[ndarray, Landmarks | None], float] | None = None
    network: Callable[[str], Network] | None = None
    files: tuple[Path, ...] = ()


def _trace(weights: str) -> Network:
    from deepfidelity_jax.quality import trace

    return trace.load()


def _ser_fiq(weights: str) -> Network:
    from deepfidelity_jax.quality import ser_fiq

    return ser_fiq.load(weights)


MEASURES = {
    "iso": How(of_pixels=iso29794.measure),
    "learned": How(of_pixels=lambda image, _: learned.measure(image), files=(learned.PLACE,)),
    "trace": How(
        network=_trace, files=(packed.BUNDLED / packed.WEIGHTS, packed.BUNDLED / packed.SPREAD)
    ),
    "ser_fiq": How(network=_ser_fiq),
    "csv": How(),
    "none": How(),
}


def _digest(files: tuple[Path, ...]) -> str:
    """The digest of a file, or of several together."""
    digests = [digest(file) for file in files]
    return digests[0] if len(digests) == 1 else fingerprint(*digests)


_digest_once = cache(_digest)


def find_weights(given: str, workdir: Path) -> Path | None:
    """The ArcFace checkpoint: where `config.quality.weights` says, or of that name in the workdir.

    Only the user may put it into the workdir: it is not ours to copy.
    """
    places = Path(given), workdir / Path(given).name
    return next((place for place in places if place.is_file()), None)


@dataclass(frozen=True)
class Measure:
    """A quality measure, as a picklable function of an encoded face.

    name: one of MEASURES; InputError for another. scores: for `csv`, quality by path. weights: the
    path of the user's weights. digest: of the file that the measure goes by; empty if not noted.
    uses_landmarks: whether a picture is measured with the face's landmarks; `iso` was not in
    earlier versions.
    """

    name: str
    scores: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    digest: str = ""
    uses_landmarks: bool = True

    def __post_init__(self):
        if self.name not in MEASURES:
            choices = ", ".join(MEASURES)
            raise InputError(f"the quality measure is {self.name!r}: one of {choices}")

    @classmethod
    def from_config(cls, own: ConfigDict) -> "Measure":
        """The measure of `config.quality`; InputError for values that cannot be."""
        measure = cls(own.measure)
        if measure.name == "csv":
            return replace(measure, scores=table.read_scores(own.csv))
        how = MEASURES[measure.name]
        if how.network and not how.files:
            measure = replace(measure, weights=own.weights)
            if not Path(own.weights).is_file():
                raise InputError(
                    f"config.quality.weights is {own.weights!r}, which is no file: {measure.name} "
                    "needs your ArcFace checkpoint, an iResNet-50 or -100 of insightface's PyTorch "
                    "code, there or in the workdir"
                )
        files = how.files or ((Path(measure.weights),) if measure.weights else ())
        return replace(measure, digest=_digest(files)) if files else measure

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> "Measure":
        """The measure that `note` described, without the scores and the weights it had."""
        return cls(
            note["measure"],
            digest=note.get("weights", ""),
            uses_landmarks=note.get("landmarks", note["measure"] != "iso"),
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

        NaN where `csv` has no row for the path, for `learned` of another version, and for a
        network, which wants many faces at once: `records.staging.rate` measures them once they are
        staged.
        """
        if self.can_remeasure:
            return self.of_pixels(pictures.decode_image(image), landmarks)
        if self.name == "csv":
            return self.scores.get(path, float("nan"))
        return 0.0 if self.name == "none" else float("nan")

    @property
    def by_network(self) -> bool:
        """Whether `load_network` gives what measures."""
        return MEASURES[self.name].network is not None

    def load_network(self) -> Network | None:
        """What measures many encoded faces at once; None for a measure without a network.

        InputError if its weights are not what they should be.
        """
        how = MEASURES[self.name]
        if how.network is None:
            return None
        files = how.files or (Path(self.weights),)
        for file in files:
            if not file.is_file():
                raise InputError(f"{file} is not here")
        if self.digest not in ("", _digest(files)):
            other = f"{self.weights} is not what the training faces were measured with"
            raise InputError(CHANGED.format(self.name) if how.files else other)
        return how.network(self.weights)

    @property
    def has_changed(self) -> bool:
        """Whether this version of the package measures otherwise than the noted one."""
        files = MEASURES[self.name].files
        return bool(files) and self.digest not in ("", _digest_once(files))

    @property
    def can_remeasure(self) -> bool:
        """Whether an altered picture can be measured anew, by `of_pixels`."""
        return MEASURES[self.name].of_pixels is not None and not self.has_changed

    def of_pixels(self, image: UInt8[ndarray, "h w 3"], landmarks: Landmarks) -> float:
        """Raw quality of a picture that is not encoded; where `can_remeasure`."""
        measure = MEASURES[self.name].of_pixels
        if measure is None:
            raise ValueError(f"{self.name} does not measure a picture by its pixels")
        return measure(image, landmarks if self.uses_landmarks else None)
