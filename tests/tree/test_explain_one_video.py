"""The notebook that explains shows what the detector predicts, and the faces it scored."""

import numpy as np
import pytest
from notebooks import COLABS, execute, pictures_of, text_of

import deepfidelity_jax as df

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_core")]

READ_BACK = """
import json

said = {}
for place, found in examined.items():
    own = found.evidence[found.decides]
    (line,) = [line for axes in timeline.axes if axes.get_title() == place.name
               for line in axes.lines if line.get_label() == "person 0"]
    first = min(people.choose_faces(own))
    (face,), _, _ = show_faces(detector, [own.crops[first]], lambda share: None)
    seen = detector.prepare(decode_image(own.crops[first].image)[None])[0]
    shown_face = cv2.resize(picture_of(face.face), seen.shape[:2], interpolation=cv2.INTER_AREA)
    headline = VERDICTS[found.prediction.status][0]
    html = (copies / f"{place.name}.html").read_text()
    said[place.name] = {
        "prediction": found.prediction.to_dict(),
        "headline": headline,
        "times": line.get_xdata().tolist(),
        "line": line.get_ydata().tolist(),
        "time": own.crops[first].time,
        "alike": float(np.abs(shown_face.astype(float) - seen).mean()),
        "on_page": [headline in html, "<script" in html],
    }
print(json.dumps(said))
"""


def test_two_clips_are_explained_as_they_are_predicted(tmp_path, monkeypatch):
    notebook, read_back = execute(
        "explain_one_video.ipynb", READ_BACK, tmp_path, monkeypatch, demo_frames=2
    )
    text = text_of(notebook)
    assert list(read_back) == ["real.mp4", "swapped.mp4"]
    for name, found in read_back.items():
        prediction = found["prediction"]
        assert f"{name}: {found['headline']}" in text
        assert f"fidelity {prediction['fidelity']:.4f}, mean of 2 frames" in text
        # The timeline is of the frames whose mean is the verdict's.
        assert found["times"] == pytest.approx([0, 1 / 8], abs=1e-3)
        assert np.mean(found["line"]) == pytest.approx(prediction["fidelity"], abs=1e-6)
        # The heat map is drawn over the face that was scored.
        assert found["alike"] < 8
        assert f"{found['time']:.1f} s" in text
        assert found["on_page"] == [True, False]
    real, swapped = (found["prediction"] for found in read_back.values())
    assert real["fidelity"] > swapped["fidelity"]
    assert real["threshold"] == pytest.approx(df.load().threshold, abs=1e-6)
    # The timeline, and faces of each clip.
    assert len(pictures_of(notebook)) == 3


def test_the_person_shown_is_the_one_whose_verdict_the_input_gets():
    code = (COLABS / "explain_one_video.ipynb").read_text()
    assert code.count("found.evidence[found.decides]") == 2
