"""What is common to a folder and a table: names by content, and what stays the same."""

from dataclasses import replace

from deepfidelity_configs import folder
from deepfidelity_datasets.manifest.manifest_dataset_builder import Builder
from deepfidelity_jax.records.own_files import OwnFiles, Source, digest_contents
from deepfidelity_jax.records.schema import FAKE, REAL
from deepfidelity_jax.records.write import Recipe

TRAIN = Source("a.png", "/x/a.png", REAL, "original", "train", digest="11")
OTHER = Source("b.png", "/x/b.png", FAKE, "swap", "validation", digest="22")
TEST = Source("c.png", "/x/c.png", FAKE, "swap", "test", digest="33")


def test_a_detector_is_bound_to_what_it_learnt_from_alone():
    own = digest_contents([TRAIN, OTHER, TEST], made=False)
    assert own == digest_contents([OTHER, TRAIN], made=False)
    assert own == digest_contents([replace(TRAIN, name="moved.png"), OTHER], made=False)
    for changed in ({"label": FAKE}, {"digest": "44"}, {"split": "validation"}):
        assert own != digest_contents([replace(TRAIN, **changed), OTHER], made=False)
    assert own != digest_contents([TRAIN, OTHER], made=True)
    assert digest_contents([TEST], made=False) == ""
    rated = {one.name: 0.5 for one in (TRAIN, OTHER, TEST)}
    bound = digest_contents([TRAIN, OTHER, TEST], made=False, scores=rated)
    for name, same in ((TRAIN.name, False), (OTHER.name, False), (TEST.name, True)):
        edited = rated | {name: 0.6}
        found = digest_contents([TRAIN, OTHER, TEST], made=False, scores=edited)
        assert (found == bound) is same


def test_records_are_named_by_what_is_in_them(tmp_path):
    recipe = Recipe.from_config(folder.get_config())

    def name(sources, **more):
        asked = {"folder": str(tmp_path)}
        own = OwnFiles(name="", recipe=recipe, splits=("test",), asked=asked, sources=sources)
        return Builder.plan(tmp_path, replace(own, **more), "files").builder_config.name

    first = name([TRAIN, OTHER, TEST])
    assert first.startswith("files-")
    assert first == name([replace(TRAIN, path="/y/a.png"), OTHER, TEST])
    others = [
        name([replace(TRAIN, **changed), OTHER, TEST])
        for changed in ({"split": "test"}, {"digest": "9"}, {"video": "v"}, {"origins": "person/a"})
    ]
    others.append(name([TRAIN, OTHER, TEST], groups={"group_age": {"a.png": "30"}}))
    assert len({first, *others}) == 6
