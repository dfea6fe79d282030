"""Controls change real faces without bringing in anything foreign."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.fidelity.calibration import METHODS, Calibration, calibrate
from deepfidelity_jax.fidelity.scale import FAKE, REAL, FidelityScale
from deepfidelity_jax.forgeries.families.video_coding import code_frame
from deepfidelity_jax.images.pictures import decode_image, encode_image, recompress
from deepfidelity_jax.scoring import controls


@pytest.fixture(scope="module")
def records():
    made = []
    for identity in range(4):
        rng = np.random.default_rng(identity)
        person = renderer.sample_identity(rng)
        (pose,) = renderer.sample_poses(rng, 1)
        image, points = renderer.render(person, renderer.sample_scene(rng), pose, 128)
        for frame in range(2):
            made.append({
                "image": encode_image(image), "landmarks": points.astype(np.float32),
                "video_id": f"v{identity}", "label": REAL, "frame": frame,
                "bbox": np.float32([20, 20, 90, 90]),
            })  # fmt: skip
        made.append(made[-1] | {"label": FAKE, "video_id": f"v{identity}:swap"})
    return made


def pixels(faces):
    return np.stack(faces).astype(int)


def test_one_real_face_of_each_video(records):
    faces = controls.real_faces(records)
    assert [(face["video_id"], face["frame"]) for face in faces] == [(f"v{i}", 0) for i in range(4)]
    assert [face["video_id"] for face in controls.real_faces(records, most=2)] == ["v0", "v2"]


@pytest.mark.parametrize("name", [*controls.DEGRADATIONS, *controls.CONTROLS])
def test_every_change_keeps_the_size_and_repeats(records, name):
    faces = controls.real_faces(records)
    change = (controls.DEGRADATIONS | controls.CONTROLS)[name]
    before, after = (pixels(controls.change_faces(faces, c)) for c in (None, change))
    assert after.shape == before.shape
    assert np.abs(after - before).max() > 3
    assert (pixels(controls.change_faces(faces, change)) == after).all()


def test_a_video_whose_name_is_no_text_is_changed(records):
    face = controls.real_faces(records)[0]
    change = controls.CONTROLS["smoothed inside"]
    (changed,) = controls.change_faces([face | {"video_id": "\udcff.mp4"}], change)
    assert changed.shape == pixels(controls.change_faces([face], None))[0].shape


@pytest.mark.parametrize("name", [n for n in controls.CONTROLS if n != "recompressed"])
def test_a_change_inside_leaves_the_corners(records, name):
    faces = controls.real_faces(records)
    before, after = (
        pixels(controls.change_faces(faces, c)) for c in (None, controls.CONTROLS[name])
    )
    change = np.abs(after - before)
    assert change[:, :6, :6].mean() < 1.5, "JPEG alone"
    assert change[:, 32:96, 32:96].mean() > change[:, :6, :6].mean()


def test_degradations_have_the_strength_in_their_names(records):
    """On a crop of 256 pixels nothing is resized before or after."""
    faces = controls.real_faces(records)
    face = cv2.resize(controls.change_faces(faces, None)[0], (256, 256))
    points, rng = np.zeros((5, 2), np.float32), np.random.default_rng(0)
    changed = {name: change(face, points, rng) for name, change in controls.DEGRADATIONS.items()}
    np.testing.assert_array_equal(changed["blur of 3 px"], cv2.GaussianBlur(face, (0, 0), 3))
    np.testing.assert_array_equal(changed["half brightness"], face // 2)
    np.testing.assert_array_equal(changed["JPEG 50"], recompress(face, 50))
    small = cv2.resize(face, (128, 128), interpolation=cv2.INTER_AREA)
    again = cv2.resize(small, (256, 256), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(changed["half size"], again)
    noise = changed["noise of 8"].astype(float) - face
    inner = (face > 40) & (face < 215)
    assert noise[inner].std() == pytest.approx(8, rel=0.05)
    coded = code_frame(face, 40.0, 4, deblocks=True)
    np.testing.assert_array_equal(changed["video coding"], coded)


def test_the_limit_keeps_the_promise_on_every_degradation():
    rng = np.random.default_rng(0)
    faces = {
        name: rng.normal(0.8 - shift, 0.1, 500)
        for name, shift in (("untouched", 0.0), ("blur of 3 px", 0.2), ("JPEG 50", 0.05))
    }
    limit = controls.fake_limit(faces)
    shares = {name: (fidelity < limit).mean() for name, fidelity in faces.items()}
    assert max(shares.values()) <= 0.01
    assert shares["blur of 3 px"] == pytest.approx(0.01, abs=0.004), "and no lower than it must be"


@pytest.mark.parametrize("count", [1, 7, 50, 99, 100, 101, 250, 300, 399, 400, 4800])
def test_the_limit_keeps_the_promise_for_any_number_of_faces(count):
    fidelity = np.random.default_rng(count).permutation(count) / count
    for name, allowed in (("untouched", 0.01), ("JPEG 50", 0.01), ("other shots", 0.001)):
        limit = controls.fake_limit({name: fidelity})
        assert (fidelity < limit).sum() == int(allowed * count)


class Sharpness(Detector):
    """A detector that takes sharp faces for real: class score and fidelity are their gradient."""

    def __init__(self):
        calibration = Calibration(-10.0, 0.5, "validation", fake_below=0.3)
        self.fidelity_model = SimpleNamespace(calibration=calibration, scale=None)

    def class_logits(self, images):
        return np.stack([-self.fidelity(images), self.fidelity(images)], axis=1)

    def fidelity(self, images):
        steps = np.abs(np.diff(images.astype(np.float32), axis=2)).mean(axis=(1, 2, 3))
        return (steps / 6).astype(np.float32)


def noise_faces(count):
    """Real faces of noise, each stronger than the last."""
    rng, faces = np.random.default_rng(0), []
    for number in range(count):
        noise = rng.normal(128, 8 + number / 4, (48, 48, 3)).clip(0, 255).astype(np.uint8)
        faces.append({
            "image": encode_image(noise), "landmarks": np.zeros((5, 2), np.float32),
            "video_id": f"v{number}", "label": REAL,
        })  # fmt: skip
    return faces


@pytest.mark.parametrize("method", METHODS)
def test_every_calibration_has_a_limit_that_keeps_the_promise(method):
    """Placed on the same validation, whose fakes are less sharp than its real faces."""
    faces, detector = noise_faces(60), Sharpness()
    real = detector.fidelity(np.stack(controls.change_faces(faces, None))).astype(np.float64)
    fidelity, label = np.r_[real, real / 3], np.repeat([REAL, FAKE], 60)
    found = calibrate(fidelity, label, middle=float(fidelity.mean()), method=method)
    detector.fidelity_model.calibration = found
    limited = controls.with_limit(detector, faces)
    assert limited.method == method
    assert limited.fake_below is not None
    assert (limited.verdicts(real) == "fake").mean() <= 0.01
    assert "uncertain" in limited.verdicts(fidelity), "below the threshold, above the limit"


def test_the_limit_is_placed_on_other_shots_of_the_faces():
    """A detector that takes light from one side for a forgery: only other shots have it."""

    class EvenLight(Sharpness):
        def fidelity(self, images):
            left, right = np.split(images.astype(np.float32), 2, axis=2)
            uneven = np.abs(left.mean(axis=(1, 2, 3)) - right.mean(axis=(1, 2, 3)))
            return (1 - uneven / 128).astype(np.float32)

    detector, faces = EvenLight(), noise_faces(50)
    detector.fidelity_model.calibration = Calibration(-10.0, 0.95, "validation")
    limited = controls.with_limit(detector, faces)
    limit = limited.fake_below
    assert controls.note_limit(limited) == {"allowed": controls.ALLOWED}
    untouched = detector.fidelity(np.stack(controls.change_faces(faces, None)))
    assert limit < untouched.min() - 0.05
    shots = [controls.change_faces(faces, shot) for shot in controls.SHOTS]
    assert len({np.stack(shot).tobytes() for shot in shots}) == len(shots)
    fidelity = np.concatenate([detector.fidelity(np.stack(shot)) for shot in shots])
    assert (fidelity < limit).sum() == int(0.001 * fidelity.size)


def test_without_usable_validation_there_is_no_limit(records):
    detector = Sharpness()
    for method in METHODS:
        upside_down = np.array([0.9, 0.8, 0.2, 0.1]), np.array([FAKE, FAKE, REAL, REAL])
        fixed = calibrate(*upside_down, middle=0.5, method=method)
        detector.fidelity_model.calibration = fixed
        assert controls.with_limit(detector, controls.real_faces(records)) == fixed
        assert fixed.fake_below is None
        assert controls.note_limit(fixed) == {}


def test_a_detector_of_sharpness_is_found_out(records):
    found = controls.measure(Sharpness(), records, seed=0, replicates=50)
    assert found["n"] == 4
    assert found["blur of 3 px"]["class_auc"] > 0.9
    assert found["noise of 8"]["class_auc"] < 0.3
    assert 0.4 <= found["moved by half a pixel inside"]["class_auc"] <= 0.8
    assert found["blur of 3 px"]["called_fake"] >= found["untouched"]["called_fake"]
    assert "class_auc" not in found["untouched"]
    assert controls.measure(Sharpness(), records[2::3], seed=0, replicates=50) == {}


def test_shares_of_verdicts_are_those_of_the_detector_s_own_scores(records):
    """Fake below the limit, uncertain from there to the threshold; after each change and before."""
    detector, faces = Sharpness(), controls.real_faces(records)
    untouched = np.sort(detector.fidelity(np.stack(controls.change_faces(faces, None))))
    limit, threshold = (float(untouched[i : i + 2].mean()) for i in (0, 1))
    detector.fidelity_model.calibration = Calibration(-10.0, threshold, "fixed", fake_below=limit)
    found = controls.measure(detector, records, seed=0, replicates=0)
    for name, change in {"untouched": None, **controls.DEGRADATIONS, **controls.CONTROLS}.items():
        fidelity = detector.fidelity(np.stack(controls.change_faces(faces, change)))
        assert found[name]["called_fake"] == np.mean(fidelity < limit), name
        between = (limit <= fidelity) & (fidelity < threshold)
        assert found[name]["called_uncertain"] == np.mean(between), name
    assert found["untouched"]["called_fake"] == found["untouched"]["called_uncertain"] == 0.25
    assert found["blur of 3 px"]["called_fake"] > 0.25


def test_real_verdicts_of_faces_too_poor_are_uncertain_as_in_predict(records):
    """Fakes stay fake, however poor: `fake_below` is set on real faces that were made poor."""

    class Dark(Sharpness):
        def quality(self, images, landmarks):
            assert len(images) == len(landmarks)
            return np.array([decode_image(one).mean() / 255 for one in images]), ""

    detector = Dark()
    untouched = [decode_image(face["image"]) for face in controls.real_faces(records)]
    lowest = min(face.mean() / 255 for face in untouched)
    detector.fidelity_model.scale = FidelityScale((0.0, 1.0), (0.9 * lowest, 1.0))
    before = controls.measure(Sharpness(), records, seed=0, replicates=0)
    found = controls.measure(detector, records, seed=0, replicates=0)
    assert found["untouched"] == before["untouched"]
    assert found["half brightness"]["called_fake"] == before["half brightness"]["called_fake"]
    assert before["half brightness"]["called_uncertain"] < 1
    both = found["half brightness"]["called_fake"] + found["half brightness"]["called_uncertain"]
    assert both == 1


def test_faces_too_small_are_uncertain_as_in_predict(records):
    tiny = [record | {"bbox": np.float32([20, 20, 24, 40])} for record in records]
    found = controls.measure(Sharpness(), tiny, seed=0, replicates=0)
    for name in ("untouched", *controls.DEGRADATIONS, *controls.CONTROLS):
        assert (found[name]["called_fake"], found[name]["called_uncertain"]) == (0, 1), name
