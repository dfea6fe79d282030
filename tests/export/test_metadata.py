"""A file says how its scores are meant."""

import json

import deepfidelity_jax as df
from deepfidelity_jax.export import metadata
from deepfidelity_jax.fidelity.scale import FAKE, REAL


def test_a_verdict_follows_from_it():
    detector = df.load()
    about = metadata.describe(detector, "Apache-2.0")
    own = detector.fidelity_model.calibration
    assert about["labels"][FAKE] == "fake"
    assert about["labels"][REAL] == "real"
    assert (about["threshold"], about["fake_below"]) == (own.threshold, own.fake_below)
    assert about["faces"] == {"detector": "mtcnn", "margin": 1.3, "size": 108, "smallest": 32}
    assert about["input"]["shape"] == ["batch", 108, 108, 3]
    assert about["licence"] == "Apache-2.0"
    assert json.loads(json.dumps(about, allow_nan=False)) == about


def test_a_licence_is_never_guessed():
    assert metadata.describe(df.load(), "")["licence"].startswith("not stated")


def test_properties_are_strings_that_say_the_same():
    about = metadata.describe(df.load(), "")
    properties = metadata.to_properties(about)
    assert all(isinstance(value, str) for value in properties.values())
    assert properties["polarity"] == about["polarity"]
    assert json.loads(properties["faces"]) == about["faces"]
