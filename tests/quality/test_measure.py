"""Every measure by one call; the face's landmarks reach it wherever faces are measured."""

import pickle
from copy import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest
import trees
from ml_collections import ConfigDict
from PIL import Image

import deepfidelity_jax as df
from deepfidelity_datasets.face_folder.extractor import Extractor as FolderExtractor
from deepfidelity_datasets.face_folder.face_folder_dataset_builder import Builder as FolderBuilder
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_datasets.synthetic_faces.clips import Clip, Renderer
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.forgeries.augment import AugmentSettings, lose_quality
from deepfidelity_jax.images.pictures import decode_image, encode_image
from deepfidelity_jax.quality import iso29794
from deepfidelity_jax.quality.measure import MEASURES, How, Measure
from deepfidelity_jax.records.benchmark_video import Extractor, Video
from deepfidelity_jax.records.own_files import Source
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, Records
from deepfidelity_jax.training.batches import LabelledFace, TrainingInput

UNKNOWN = np.full((5, 2), np.nan, np.float32)


def rendered(seed=1, side=96):
    rng = np.random.default_rng(seed)
    who, where = renderer.sample_identity(rng), renderer.sample_scene(rng)
    (pose,) = renderer.sample_poses(rng, 1)
    image, points = renderer.render(who, where, pose, side)
    return image, points.astype(np.float32)


@pytest.fixture(scope="module")
def off_centre():
    """A face in the corner of its crop, encoded, and its landmarks: they matter."""
    image, points = rendered()
    crop = np.full((160, 160, 3), 110, np.uint8)
    crop[:96, :96] = image
    return encode_image(crop), points


def test_iso_looks_where_the_landmarks_are(off_centre):
    image, points = off_centre
    iso, pixels = Measure("iso"), decode_image(image)
    assert iso(image, points) == iso.of_pixels(pixels, points) == iso29794.measure(pixels, points)
    assert iso(image, UNKNOWN) == iso29794.measure(pixels)
    assert abs(iso(image, points) - iso(image, UNKNOWN)) > 0.01
    earlier = replace(iso, uses_landmarks=False)
    assert earlier(image, points) == earlier.of_pixels(pixels, points) == iso(image, UNKNOWN)


def test_the_others_need_no_pixels():
    csv = Measure("csv", {"a/b.png": 2.0, "c.png": 3.0})
    assert csv(b"", UNKNOWN, "a/b.png") == 2
    assert np.isnan(csv(b"", UNKNOWN, "x/c.png")), "another file of that name"
    assert np.isnan(csv(b"", UNKNOWN, "b.png"))
    assert Measure("none")(b"", UNKNOWN, "a") == 0
    ser_fiq = Measure("ser_fiq", weights="a.pth")
    assert np.isnan(ser_fiq(b"", UNKNOWN, "a")), "later, many at once"
    assert [m.can_remeasure for m in (Measure("iso"), csv, ser_fiq)] == [True, False, False]


def test_an_unknown_measure_is_no_measure():
    with pytest.raises(InputError, match="'mine': one of iso, learned, trace, ser_fiq, csv, none"):
        Measure("mine")
    with pytest.raises(InputError, match="'mine'"):
        Measure.from_note({"measure": "mine"})
    for name in ("trace", "ser_fiq", "csv", "none"):
        with pytest.raises(ValueError, match=name):
            Measure(name).of_pixels(np.zeros((8, 8, 3), np.uint8), UNKNOWN)


def test_a_row_of_the_table_is_a_measure(off_centre, tmp_path, monkeypatch):
    """Of pixels, or by a network; predicted as the training faces were measured."""
    image, points = off_centre
    monkeypatch.setitem(MEASURES, "mine", How(of_pixels=lambda image, points: float(points[0, 0])))
    mine = Measure("mine")
    assert mine.can_remeasure
    again = Measure.from_note(mine.note())
    assert mine(image, points) == again(image, points) == points[0, 0]

    def measure_sizes(images, landmarks):
        return np.array([*map(len, images)], np.float32)

    other, file = tmp_path / "spread", tmp_path / "weights"
    for path in (other, file):
        path.write_text("own")
    sizes = How(network=lambda _: measure_sizes, files=(other, file))
    monkeypatch.setitem(MEASURES, "sizes", sizes)
    own = Measure.from_config(ConfigDict({"measure": "sizes", "csv": "", "weights": ""}))
    assert np.isnan(own(image, points)), "later, many at once"
    detector = df.load()
    detector.fidelity_model = replace(detector.fidelity_model, provenance={"quality": own.note()})
    assert detector.quality([image], [points]) == (np.array([len(image)]), "")
    for changed in (other, file):
        changed.write_text("changed")
        detector.__dict__.pop("_network_measure", None)
        (found,), reason = detector.quality([image], [points])
        assert np.isnan(found)
        assert "`sizes` was that of another version" in reason
        changed.write_text("own")


def test_records_tell_how_they_were_measured():
    """Those of earlier versions do not mention landmarks, and were measured without them."""
    iso = Measure("iso")
    assert Measure.from_note(iso.note()) == iso
    assert not Measure.from_note({"measure": "iso", "scores": fingerprint({})}).uses_landmarks
    weighed = Measure("ser_fiq", weights="a.pth", digest="abc")
    assert Measure.from_note(weighed.note()).digest == "abc"
    assert pickle.loads(pickle.dumps(iso)) == iso
    # By these the folders of records are named: as ever.
    assert iso.to_json() == {"measure": "iso", "scores": fingerprint({})}


def assert_landmarks_used(faces):
    """Each face's quality is that at its own landmarks, and these make a difference."""
    assert faces
    changed = 0
    for face in faces:
        pixels = decode_image(face.image)
        assert face.quality == iso29794.measure(pixels, face.landmarks)
        changed += face.quality != iso29794.measure(pixels)
    assert changed == len(faces)


def test_rendered_clips_are_measured_at_their_landmarks():
    clip = Clip(4, 0, "test")
    assert_landmarks_used(Renderer(64, 2, Measure("iso"), {"test": (4, 5)}, 0)(clip).faces)


def test_benchmark_crops_are_measured_at_their_landmarks(tmp_path):
    for place in ("frames/a", "landmarks/a"):
        (tmp_path / place).mkdir(parents=True)
    for number in range(2):
        image, five = rendered(number)
        cv2.imwrite(str(tmp_path / f"frames/a/{number}.png"), image[..., ::-1])
        points = np.zeros((81, 2))
        points[36:42], points[42:48] = five[0], five[1]
        points[[30, 48, 54]] = five[2:]
        np.save(tmp_path / f"landmarks/a/{number}.npy", points)
    names = ("a/0.png", "a/1.png")
    video = Video("a", str(tmp_path / "frames"), REAL, ORIGINAL, "a", "train", frames=names)
    settings = FaceSettings(detector="none", size=96, frames=2)
    assert_landmarks_used(Extractor(settings, Measure("iso"))(video).faces)


def test_photographs_and_their_forgeries_are_measured_at_their_landmarks(tmp_path):
    Image.fromarray(trees.film(1, count=1)[0]).save(tmp_path / "a.png")
    source = Source("a.png", str(tmp_path / "a.png"), REAL, ORIGINAL, "train", "digest")
    extract = FolderExtractor(FaceSettings(size=96), Measure("iso"), {"train": ()}, 0)
    faces = extract(source).faces
    made = {face.method for face in faces}
    assert made <= {ORIGINAL, *families.FAMILIES} - set(families.NEED_DONOR), "nobody to take from"
    assert len(made) > 1
    assert_landmarks_used([face for face in faces if face.split == "train"])


def test_training_measures_again_as_the_records_were(off_centre):
    """After a loss of quality, by the same measure at the same landmarks."""
    image, points = off_centre
    made_from = TrainingInput(
        size=96,
        settings=AugmentSettings.off(),
        quality_scale=FidelityScale(fake_quality=(0.0, 1.0), real_quality=(0.0, 1.0)),
        measure=Measure("iso"),
    )
    record = {"image": image, "label": REAL, "landmarks": points, "quality": 0.5}
    found = []
    for measure in (Measure("iso"), Measure("iso", uses_landmarks=False), Measure("csv")):
        make = LabelledFace(replace(made_from, measure=measure))
        found.append(make.random_map(record, np.random.default_rng(0))["fidelity"])
    pixels = decode_image(image)
    qualities = [iso29794.measure(pixels, points), iso29794.measure(pixels), 0.5]
    np.testing.assert_allclose(found, [0.6 + 0.4 * q for q in qualities], rtol=1e-6)


def test_training_measures_the_picture_that_lost_quality(off_centre):
    """The target is that of the degraded face, not of the one in the record."""
    image, points = off_centre
    settings = replace(AugmentSettings.off(), degrade_p=1.0, degrade_strength=0.8)
    quality_scale = FidelityScale(fake_quality=(0.0, 1.0), real_quality=(0.0, 1.0))
    make = LabelledFace(TrainingInput(96, settings, quality_scale, Measure("iso")))
    untouched, changed = iso29794.measure(decode_image(image), points), 0
    for label, (low, high) in ((FAKE, quality_scale.fake), (REAL, quality_scale.real)):
        record = {"image": image, "label": label, "landmarks": points, "quality": untouched}
        for seed in range(4):
            found = make.random_map(record, np.random.default_rng(seed))["fidelity"]
            degraded = lose_quality(decode_image(image), settings, np.random.default_rng(seed))
            quality = iso29794.measure(degraded, points)
            assert found == pytest.approx(low + (high - low) * quality, abs=1e-6)
            changed += abs(quality - untouched) > 0.01
    assert changed > 4, "a loss that the measure sees"


def test_records_of_an_earlier_version_are_read_where_they_are(tmp_path):
    builder = FolderBuilder
    assert builder.version_in(tmp_path) == str(builder.VERSION)
    for version in ("1.4.0", "2.0.0", str(builder.VERSION)):  # the latest is preferred
        (tmp_path / version).mkdir()
        assert builder.version_in(tmp_path) != version, "not finished"
        (tmp_path / version / "dataset_info.json").touch()
        assert builder.version_in(tmp_path) == version


def test_a_detector_measures_as_its_training_faces_were(finished, records_folder):
    """With landmarks; one fitted by an earlier version, whose note has none, without."""
    detector = df.load(finished)
    record = Records(records_folder, "test")[0]
    given = [record["image"]], [record["landmarks"]]
    (found,), reason = detector.quality(*given)
    assert reason == ""
    assert found == pytest.approx(record["quality"], abs=1e-6)
    pixels = decode_image(record["image"])
    assert found != iso29794.measure(pixels)
    note = dict(detector.fidelity_model.provenance["quality"])
    assert note.pop("landmarks") is True
    earlier = copy(detector)
    earlier.fidelity_model = replace(detector.fidelity_model, provenance={"quality": note})
    assert earlier.quality(*given) == (np.array([iso29794.measure(pixels)]), "")
