"""A trained detector: features, logits and fidelity of face crops, and verdicts on files.

import deepfidelity_jax as df
detector = df.load(workdir)
detector.fidelity(images)      # uint8 [N, H, W, 3] RGB face crops -> float32 [N], high is real
detector.predict("video.mp4")  # finds the faces
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from ml_collections import ConfigDict

from deepfidelity_jax import __version__
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.detector.predict import Prediction, predict
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.fidelity import calibration, stored
from deepfidelity_jax.fidelity.arrays import Head, regress
from deepfidelity_jax.files import digest, fingerprint
from deepfidelity_jax.forgeries import augment
from deepfidelity_jax.network import inference
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.fold import fold
from deepfidelity_jax.network.ssaaformer import SSAAFormer
from deepfidelity_jax.quality.measure import CHANGED, NO_EYES, Measure, find_weights
from deepfidelity_jax.training import checkpoint, sharding
from deepfidelity_jax.weight_files import packed

# Every batch is padded to one of these sizes, so that only these are ever compiled.
BATCH_SIZES = (1, 8, 64)

Images = UInt8[np.ndarray, "n h w 3"]


class Detector:
    """A network with averaged weights, and its regressor once it is fitted. `load` makes one.

    Attributes:
      config: the config it was trained with.
      step: the training step of its weights.
      faces: how faces are found and cropped.
      fidelity_model: regressor and calibration; None before the fit stage.
      folder: where it was loaded from; None if it was made in memory.
      weights: a digest of its weights; empty if it was made in memory.
      network, variables: the network in its inference form.
      mirror_average: whether a face is scored together with its mirror image.
    """

    def __init__(
        self,
        config: ConfigDict,
        variables,
        step: int,
        fidelity_model: stored.FidelityModel | None = None,
        arcface: Path | None = None,
        origin: str = "",
        folder: Path | None = None,
        weights: str = "",
    ):
        self.config, self.step, self.fidelity_model = config, step, fidelity_model
        self.folder, self.weights, self._origin = folder, weights, origin
        self.faces = FaceSettings(**config.faces)
        self._arcface, self._mesh = arcface, None
        self.network = build_model(config).clone(folded=True)
        self.mirror_average = config.model.mirror_average
        # As host arrays, wherever they come from: JAX compiles anew for arrays bound to a device.
        self.variables = _fold(jax.device_get(variables), self.network.config)
        self._regressor = fidelity_model and jax.device_put(fidelity_model.regressor.arrays)

    def fitted(self, model: stored.FidelityModel) -> "Detector":
        """The same network with another regressor and calibration."""
        other = copy.copy(self)
        other.fidelity_model = model
        other._regressor = jax.device_put(model.regressor.arrays)
        return other

    def unmirrored(self) -> "Detector":
        """The same detector, for which a face counts alone, without its mirror image."""
        other = copy.copy(self)
        other.mirror_average = False
        return other

    def on_all_devices(self) -> "Detector":
        """The same detector, with batches split over all devices of this process."""
        spread = copy.copy(self)
        spread._mesh = sharding.local_mesh(BATCH_SIZES[1])
        spread.variables, spread._regressor = jax.device_put(
            (self.variables, self._regressor), sharding.replicated(spread._mesh)
        )
        return spread

    def features(self, images: Images) -> Float32[np.ndarray, "n d"]:
        """Mean over tokens + 0.5 * max over tokens, the input of the regressor."""
        return self.features_of_prepared(self.prepare(images))

    def features_of_prepared(
        self, prepared: UInt8[np.ndarray, "n s s 3"]
    ) -> Float32[np.ndarray, "n d"]:
        """`features` of crops that are already at the network's size, as `prepare` returns them."""
        return self._batched(prepared, lambda x: self._answer(x).features)

    def features_and_answers(
        self, prepared: UInt8[np.ndarray, "n s s 3"]
    ) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "n h"]]:
        """The inputs of a regressor: features, and `Outputs.head_fidelities`."""
        return self._batched(prepared, lambda x: self._answer(x)[:2])

    def logits(self, images: Images) -> Float32[np.ndarray, "n 2"]:
        """Sum of the class head and the token head; index 0 fake, 1 real."""
        return self._batched(self.prepare(images), lambda x: self._answer(x).logits)

    def class_logits(self, images: Images) -> Float32[np.ndarray, "n 2"]:
        """The class head alone; index 0 fake, 1 real."""
        return self._batched(self.prepare(images), lambda x: self._answer(x).class_logits)

    def fidelity(self, images: Images) -> Float32[np.ndarray, "n"]:
        """Perceptual forgery fidelity, high is real. Raises InputError if there is no regressor."""
        self.require_fitted()
        return self.fidelity_of_prepared(self.prepare(images))

    def fidelity_of_prepared(
        self, prepared: UInt8[np.ndarray, "n s s 3"]
    ) -> Float32[np.ndarray, "n"]:
        """`fidelity` of crops that are already at the network's size, as `prepare` returns them."""
        return self._batched(prepared, self._score)

    def p_fake(self, scores: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Probability of a fake given fidelity, with real and fake equally likely a priori."""
        return calibration.p_fake(self.require_fitted().calibration, scores)

    def quality(
        self, images: Sequence[bytes], landmarks: Sequence[Float32[np.ndarray, "5 2"]]
    ) -> tuple[Float[np.ndarray, "n"], str]:
        """Quality of encoded crops, by the measure that was used for the training faces.

        Returns:
          Raw quality of each crop, NaN where it cannot be measured; and the reason for any NaN.
        """
        noted = self.noted_measure
        if self.measure:
            pairs = zip(images, landmarks, strict=True)
            return np.array([self.measure(image, points) for image, points in pairs]), ""
        if noted.by_network:
            measure, reason = self._network_measure
            if measure:
                qualities = measure(images, landmarks)
                return qualities, "" if np.isfinite(qualities).all() else NO_EYES
        elif noted.name == "csv":
            reason = "the quality of the training faces came from a table"
        elif noted.has_changed:
            reason = CHANGED.format(noted.name)
        else:
            reason = "the quality of the training faces was not measured"
        return np.full(len(images), np.nan), reason

    def is_poor(
        self, images: Sequence[bytes], landmarks: Sequence[Float32[np.ndarray, "5 2"]]
    ) -> Bool[np.ndarray, "n"]:
        """Whether encoded crops are too poor to be called real; False where that is not known."""
        scale = self.fidelity_model.scale if self.fidelity_model else None
        if scale is None:
            return np.zeros(len(images), bool)
        return scale.is_poor(self.quality(images, landmarks)[0])

    @property
    def measure(self) -> Measure | None:
        """The quality measure of the training faces, if it needs only the picture."""
        return self.noted_measure if self.noted_measure.can_remeasure else None

    @property
    def noted_measure(self) -> Measure:
        """The quality measure of the training faces, whether or not it is available here."""
        noted = self.fidelity_model.provenance if self.fidelity_model else {}
        return Measure.from_note(noted.get("quality", {"measure": self.config.quality.measure}))

    @cached_property
    def _network_measure(self) -> tuple[Callable | None, str]:
        """The measure that needs a network, loaded on first use; or None and the reason."""
        weights = str(self._arcface or self.config.quality.get("weights", ""))
        try:
            return replace(self.noted_measure, weights=weights).load_network(), ""
        except InputError as error:
            return None, str(error)

    @property
    def fingerprint(self) -> str:
        """Digest of what a prediction depends on besides the file: weights, regressor, faces."""
        faces = self.faces.to_dict()
        if Path(faces["yunet"]).is_file():
            faces["yunet"] = digest(faces["yunet"])
        return fingerprint(__version__, self._origin, faces, self._arcface is not None)

    @property
    def threshold(self) -> float:
        """The fidelity from which a face counts as real. InputError if there is no regressor."""
        return self.require_fitted().calibration.threshold

    def require_fitted(self) -> stored.FidelityModel:
        """Regressor and calibration. InputError if there is no regressor."""
        if self.fidelity_model is None:
            place = self.folder or "this detector"
            raise InputError(
                f"{place} has no {bundled.FITTED}: run --mode=fit with its own config first"
            )
        return self.fidelity_model

    def predict(self, path: str | Path) -> Prediction:
        """Find, track and score the people in one image or video."""
        return predict(self, Path(path).expanduser())

    def prepare(self, images: Images) -> UInt8[np.ndarray, "n s s 3"]:
        """Crops of any size as network input: the central part, resized."""
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise InputError(
                f"images are {images.dtype} {list(images.shape)}: give uint8 [N, H, W, 3] in RGB"
            )
        side, share = self.config.model.image_size, self.config.model.eval_crop
        prepared = np.zeros((len(images), side, side, 3), np.uint8)
        for row, image in zip(prepared, images, strict=True):
            row[:] = augment.center_crop(image, side, share)
        return prepared

    def _answer(self, prepared):
        return _answer(self.network, self.mirror_average, self.variables, prepared)

    def _score(self, prepared):
        return _score(self.network, self.mirror_average, self.variables, self._regressor, prepared)

    def _batched(self, prepared, compute):
        results = []
        # An empty batch still runs once, for the shape of its result.
        for start in range(0, max(len(prepared), 1), BATCH_SIZES[-1]):
            batch = prepared[start : start + BATCH_SIZES[-1]]
            count = len(batch)
            devices = self._mesh.size if self._mesh else 1
            size = next(s for s in BATCH_SIZES if s >= count and s % devices == 0)
            padded = np.zeros((size, *batch.shape[1:]), np.uint8)
            padded[:count] = batch
            if self._mesh:
                padded = jax.device_put(padded, sharding.split_batch(self._mesh))
            results.append(
                jax.tree.map(lambda x, count=count: np.asarray(x)[:count], compute(padded))
            )
        return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


# Compiled once for each network, even if several detectors share it.


@partial(jax.jit, static_argnums=(0, 1))
def _answer(network: SSAAFormer, mirror_average: bool, variables, images):
    return inference.answer(network, variables, images, mirror_average=mirror_average)


@partial(jax.jit, static_argnums=(0, 1))
def _score(network: SSAAFormer, mirror_average: bool, variables, regressor, images):
    return regress(regressor, *_answer(network, mirror_average, variables, images)[:2])


_fold = jax.jit(fold, static_argnames="config")


def load(workdir: str | Path | None = None, *, fitted: bool = True) -> Detector:
    """The detector in a workdir, with the weights that did best on validation.

    Also takes a folder that `--mode=export` wrote; without a folder, loads the detector that comes
    with the package. Works on any platform and needs no dataset. `fitted=False` leaves its
    regressor out. Raises InputError if the folder is not a workdir, is not trained, or is damaged,
    or if its regressor belongs to other weights.
    """
    workdir = bundled.folder() if workdir is None else Path(workdir).expanduser()
    path = workdir / bundled.FITTED
    config, variables, step = bundled.read_detector(workdir)
    if bundled.holds(workdir):
        files = filter(Path.exists, (workdir / packed.WEIGHTS, path))
        origin = fingerprint(config.model.to_dict(), *map(digest, files))
    else:
        notes = checkpoint.read_notes(workdir / "checkpoints", step)
        origin = fingerprint(
            config.model.to_dict(), notes.get("checksums", notes), path.exists() and digest(path)
        )
    weights = _digest_of_weights(workdir, step)
    model = stored.load(path) if fitted and path.exists() else None
    _require_head(config, model, workdir)
    if model and not bundled.holds(workdir):  # packing gives weights another digest
        stored.require_fitted_to(weights, model, path)
    return Detector(
        config,
        variables,
        step,
        fidelity_model=model,
        arcface=find_weights(config.quality.get("weights", ""), workdir),
        origin=origin,
        folder=workdir,
        weights=weights,
    )


def load_fitted(workdir: str | Path | None = None) -> Detector:
    """`load`, but InputError if the detector has no regressor yet."""
    detector = load(workdir)
    detector.require_fitted()
    return detector


def identify(folder: str | Path) -> str:
    """A digest of the weights and the regressor in a folder; empty if either is missing."""
    folder = Path(folder)
    fitted = folder / bundled.FITTED
    step = 0 if bundled.holds(folder) else checkpoint.best_step(folder / "checkpoints")
    if step is None or not fitted.exists():
        return ""
    return fingerprint(_digest_of_weights(folder, step), digest(fitted))


def _digest_of_weights(folder: Path, step: int) -> str:
    if bundled.holds(folder):
        return digest(folder / packed.WEIGHTS)
    return checkpoint.digest_of_weights(folder / "checkpoints", step)


def _require_head(config: ConfigDict, fitted: stored.FidelityModel | None, folder: Path) -> None:
    """InputError if fidelity.npz names a head that the network beside it does not have."""
    if fitted is None or not isinstance(fitted.regressor.arrays, Head):
        return
    name, network_config = fitted.regressor.arrays.name, build_model(config).config
    missing = {
        "fidelity_head": not network_config.fidelity_head,
        "ordinal_head": not network_config.ordinal_head,
    }
    if missing.get(name):
        raise InputError(
            f"{folder / bundled.FITTED} takes its scores from the {name}, which the network there "
            "was trained without: they belong to different detectors: fit again with --mode=fit"
        )
