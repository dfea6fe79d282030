"""FaceForensics++: the official split, four fakes of one name, compressions, DeepFakeDetection."""

import copy
import shutil
from collections import Counter

import numpy as np
import pytest
import trees

from deepfidelity_datasets.ffpp.ffpp_dataset_builder import Builder
from deepfidelity_datasets.ffpp.sources import CLASSIC, DFD, METHODS, list_videos
from deepfidelity_datasets.ffpp.splits import PAIRS
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, SPLITS

pytestmark = pytest.mark.usefixtures("one_core")

COUNTS = {"train": 720, "validation": 140, "test": 140}


def touch_all(root, methods=CLASSIC, compression="c23"):
    """The whole distribution, as far as names go."""
    for folder, names in [
        ("original_sequences/youtube", [f"{n:03d}" for n in range(1000)]),
        *(
            (
                f"manipulated_sequences/{method}",
                [
                    f"{x}_{y}"
                    for pairs in PAIRS.values()
                    for a, b in pairs
                    for x, y in ((a, b), (b, a))
                ],
            )
            for method in methods
        ),
    ]:
        place = root / folder / compression / "videos"
        place.mkdir(parents=True)
        for name in names:
            (place / f"{name}.mp4").touch()
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return touch_all(tmp_path_factory.mktemp("ffpp"), (*CLASSIC, "FaceShifter"))


def test_the_official_split_is_whole():
    ids = [name for pairs in PAIRS.values() for pair in pairs for name in pair]
    assert sorted(ids) == [f"{n:03d}" for n in range(1000)]
    assert {split: len(pairs) for split, pairs in PAIRS.items()} == {
        "train": 360, "validation": 70, "test": 70,
    }  # fmt: skip
    # The ends of the official lists.
    assert PAIRS["train"][0] == ("071", "054")
    assert PAIRS["validation"][0] == ("720", "672")
    assert PAIRS["test"][0] == ("953", "974")
    assert PAIRS["test"][-1] == ("429", "404")


def test_file_names_alone_give_the_official_counts(whole):
    methods = (*CLASSIC, "FaceShifter")
    holding = list_videos(whole, "c23", methods)
    assert not holding.missing
    for name in (ORIGINAL, *methods):
        own = [video for video in holding.sources if video.method == name]
        assert Counter(video.split for video in own) == COUNTS
        assert {video.label for video in own} == {REAL if name == ORIGINAL else FAKE}
    assert len({video.video_id for video in holding.sources}) == 6000
    # A fake lies where both of its originals lie.
    split_of = {v.video_id.split("/")[1]: v.split for v in holding.sources if v.label == REAL}
    for video in holding.sources:
        for origin in video.origins:
            assert split_of[origin.removeprefix("video/")] == video.split
        assert len(video.origins) == (1 if video.label == REAL else 2)


def test_the_four_fakes_of_one_name_stay_four_videos(whole):
    videos = [
        v for v in list_videos(whole, "c23", CLASSIC).sources if v.name.endswith("/071_054.mp4")
    ]
    assert len(videos) == 4
    assert {video.method for video in videos} == set(CLASSIC)
    assert len({video.video_id for video in videos}) == len({video.name for video in videos}) == 4


def test_records_of_the_official_layout(tmp_path, tiny):
    trees.ffpp(tmp_path / "in", CLASSIC)
    config = trees.set_up(tiny, "ffpp", tmp_path / "in")
    rows, metadata = trees.build(Builder, config, tmp_path / "out")
    pairs = trees.some_pairs()
    assert rows.keys() == set(SPLITS)
    for split, ((a, b),) in pairs.items():
        videos = {}
        for row in rows[split]:
            videos.setdefault(row["video_id"], []).append(row)
        expected = {f"youtube/{a}", f"youtube/{b}"}
        expected |= {f"{m}/{x}_{y}" for m in CLASSIC for x, y in ((a, b), (b, a))}
        assert videos.keys() == expected
        for video_id, own in videos.items():
            kind, name = video_id.split("/")
            real = kind == "youtube"
            # 4 of 10 frames, each in the middle of its share.
            assert sorted(row["frame"] for row in own) == [1, 3, 6, 8]
            for row in own:
                assert row["label"] == (REAL if real else FAKE)
                assert row["method"] == (ORIGINAL if real else kind)
                assert trees.told(decode_image(row["image"])) == row["frame"]
                assert row["path"].endswith(f"c23/videos/{name}.mp4")
                assert row["origins"].split() == [f"video/{n}" for n in name.split("_")]
    assert metadata["options"]["compression"] == "c23"
    assert metadata["tally"]["test"]["videos"] == 10
    assert metadata["tally"]["test"]["frames"] == 40
    assert metadata["listed"] == {}
    missing = [name for name, note in metadata["notes"].items() if note == "missing"]
    assert len(missing) == 5000 - 30


def test_videos_that_are_not_in_the_official_list_are_noted(tmp_path):
    trees.ffpp(tmp_path, ("Deepfakes",))
    trees.dfd(tmp_path)  # has no such list
    before = list_videos(tmp_path, "c23", ("Deepfakes", DFD))
    assert not before.notes
    others = [
        "original_sequences/youtube/c23/videos/1000.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/071_054 (1).mp4",
    ]
    for name in others:
        (tmp_path / name).touch()
    after = list_videos(tmp_path, "c23", ("Deepfakes", DFD))
    assert after.notes == dict.fromkeys(others, "not in the official list")
    assert (after.sources, after.missing) == (before.sources, before.missing)
    methods = ("Deepfakes", "FaceSwap")
    path = trees.bench_ffpp(tmp_path / "bench", methods)
    path.write_text(path.read_text().replace("071_054", "071_055"))
    for place in (tmp_path / "bench").rglob("frames/071_054"):
        place.rename(place.with_name("071_055"))
    notes = list_videos(tmp_path / "bench", "c23", methods, str(path)).notes
    assert notes == {
        f"manipulated_sequences/{method}/c23/frames/071_055": "not in the official list"
        for method in methods
    }


def test_targets_are_fitted_on_training_alone(tmp_path, tiny):
    """Best and worst of training map to the ends; whatever goes beyond in the test is clipped."""

    def write(path, seed):
        number = seed % 1000
        train = f"{number:03d}" in trees.some_pairs()["train"][0]
        frames = [trees.numbered(seed, n) for n in range(4)]
        # The test's videos are worse than any of training's, the validation's better.
        noise = np.random.default_rng(seed).normal(0, 6 if train else 60, frames[0].shape)
        trees.write_video(path, [np.clip(f + noise, 0, 255).astype(np.uint8) for f in frames])

    trees.ffpp(tmp_path / "in", ("Deepfakes",), write=write)
    config = trees.set_up(tiny, "ffpp", tmp_path / "in", methods=("Deepfakes",))
    config.fidelity.percentile = 0.0
    rows, metadata = trees.build(Builder, config, tmp_path / "out")
    scale = metadata["fidelity_scale"]
    clipped = Counter()
    for label, name, low, high in ((FAKE, "fake", 0.0, 0.4), (REAL, "real", 0.6, 1.0)):
        train = [
            (row["quality"], row["fidelity"]) for row in rows["train"] if row["label"] == label
        ]
        assert scale[f"{name}_quality"] == pytest.approx([min(train)[0], max(train)[0]])
        assert min(train)[1] == pytest.approx(low, abs=1e-6)
        assert max(train)[1] == pytest.approx(high, abs=1e-6)
        for split in ("validation", "test"):
            for row in rows[split]:
                if row["label"] != label:
                    continue
                if row["quality"] < min(train)[0]:
                    assert row["fidelity"] == pytest.approx(low, abs=1e-6)
                    clipped[split] += 1
                elif row["quality"] > max(train)[0]:
                    assert row["fidelity"] == pytest.approx(high, abs=1e-6)
                    clipped[split] += 1
    assert clipped["test"] > 0
    assert metadata["clipped"] == {
        "train": 0,
        "validation": clipped["validation"],
        "test": clipped["test"],
    }


def test_deep_fake_detection_is_for_the_test(tmp_path, tiny):
    trees.dfd(tmp_path / "in")
    config = trees.set_up(tiny, "ffpp", tmp_path / "in", methods=(DFD,), prepare=("test",))
    rows, metadata = trees.build(Builder, config, tmp_path / "out")
    assert rows.keys() == {"test"}
    found = {(row["video_id"], row["method"], row["label"]) for row in rows["test"]}
    assert found == {
        *((f"actors/{name}", ORIGINAL, REAL) for name in trees.DFD_REAL),
        *((f"{DFD}/{name}", DFD, FAKE) for name in trees.DFD_FAKE),
    }
    assert {row["origins"] for row in rows["test"]} == {
        "actor/01", "actor/02", "actor/01 actor/02", "actor/02 actor/01",
    }  # fmt: skip
    # Without a training split there is nothing to fit targets on, and none are invented.
    assert np.isnan([row["fidelity"] for row in rows["test"]]).all()
    assert "fidelity_scale" not in metadata
    config.data.prepare = SPLITS
    with pytest.raises(InputError, match="DeepFakeDetection has only a test split"):
        Builder.configured(config, tmp_path / "out")


def test_with_other_methods_deep_fake_detection_joins_the_test(tmp_path):
    trees.ffpp(tmp_path, ("Deepfakes",))
    trees.dfd(tmp_path)
    videos = list_videos(tmp_path, "c23", ("Deepfakes", DFD)).sources
    assert {video.split for video in videos if DFD in video.name or "actors" in video.name} == {
        "test"
    }
    assert sum(video.split == "test" for video in videos) == 4 + 5
    assert not any("actors" in v.name for v in list_videos(tmp_path, "c23", ("Deepfakes",)).sources)


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_deepfakebench_frames(tmp_path, tiny, separator):
    methods = ("Deepfakes", "FaceSwap")
    path = trees.bench_ffpp(tmp_path / "in", methods, separator=separator)
    config = trees.set_up(tiny, "ffpp", tmp_path / "in", methods=methods, bench_json=str(path))
    rows, metadata = trees.build(Builder, config, tmp_path / "out")
    for split, ((a, b),) in trees.some_pairs().items():  # although the file says all is training
        expected = {f"youtube/{a}", f"youtube/{b}"}
        expected |= {f"{m}/{x}_{y}" for m in methods for x, y in ((a, b), (b, a))}
        assert {row["video_id"] for row in rows[split]} == expected
        for row in rows[split]:
            assert trees.told(decode_image(row["image"])) == row["frame"]
            assert row["path"].endswith(f"/{row['frame']:03d}.png")
            # Of 81 points at twice the size; the middles of pixels keep to their places.
            points = trees.points_81(row["frame"])
            eyes = [points[36:42].mean(0), points[42:48].mean(0)]
            five = np.array([*eyes, points[30], points[48], points[54]])
            np.testing.assert_allclose(row["landmarks"], (five + 0.5) / 2 - 0.5, atol=1e-4)
        # Number 0, 2, 3 and 5 of six in numerical order: evenly spaced, not the first four.
        for video_id in expected:
            own = [row["frame"] for row in rows[split] if row["video_id"] == video_id]
            assert sorted(own) == [0, 10, 30, 111]
    assert metadata["options"]["held"] == "DeepfakeBench frames"


def test_frames_that_are_listed_and_not_there_are_missing(tmp_path):
    methods = ("Deepfakes",)
    path = trees.bench_ffpp(tmp_path, methods)
    root = tmp_path / "FaceForensics++"
    before = list_videos(tmp_path, "c23", methods, str(path))
    gone = {
        "original_sequences/youtube/c23/frames/071": ("train",),
        "manipulated_sequences/Deepfakes/c23/frames/974_953": ("test",),
    }
    for place in gone:
        shutil.rmtree(root / place)
    after = list_videos(tmp_path, "c23", methods, str(path))
    assert {v.name for v in before.sources} - {v.name for v in after.sources} == set(gone)
    assert {*after.missing} - {*before.missing} == set(gone.items())


def test_what_a_copy_lacks_is_said(tmp_path, tiny, whole):
    def message(folder, **data):
        config = trees.set_up(copy.deepcopy(tiny), "ffpp", folder, **{"incomplete": False} | data)
        with pytest.raises(InputError) as error:
            Builder.configured(config, tmp_path / "out")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "not a folder" in message(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    text = message(tmp_path / "empty")
    assert "no original_sequences/ or manipulated_sequences/" in text
    assert "datasets/ffpp/README.md" in text
    # One folder too high, one too low.
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "ffpp").symlink_to(whole)
    assert f"give {tmp_path / 'copies' / 'ffpp'}" in message(tmp_path / "copies")
    assert f"give {whole}" in message(whole / "original_sequences")
    text = message(whole, compression="c40")
    assert "nothing of original_sequences/youtube in compression c40, but in c23" in text
    assert "--config.data.compression=c23" in text
    assert "config.data.compression is 'c24': one of raw, c23, c40" in message(
        whole, compression="c24"
    )
    assert "choose from Deepfakes" in message(whole, methods=("Deepfake",))
    text = message(whole, methods=METHODS)
    assert "actors" in text
    assert "remove DeepFakeDetection from config.data.methods" in text
    half = touch_all(tmp_path / "half", ("Deepfakes",))
    for path in sorted((half / "manipulated_sequences/Deepfakes/c23/videos").iterdir())[500:]:
        path.unlink()
    text = message(half, methods=("Deepfakes",))
    assert "lacks 500 videos of ffpp, such as manipulated_sequences/Deepfakes/c23/videos/" in text
    assert "holds 1500" in text
    assert "--config.data.incomplete=true" in text
    config = trees.set_up(copy.deepcopy(tiny), "ffpp", whole, bench_json="x.json")
    config.faces.detector = "cascade"
    with pytest.raises(InputError, match="lists crops.*--config.faces.detector=none"):
        Builder.configured(config, tmp_path / "out")
    assert "config.data.bench_json is" in message(whole, bench_json=str(tmp_path / "no.json"))


@pytest.mark.slow
def test_records_need_no_copy_once_they_are_there(tmp_path, tiny):
    config = trees.set_up(tiny, "ffpp", "", incomplete=False)
    builder = Builder.configured(config, tmp_path)
    with pytest.raises(
        InputError, match=r"config\.data\.manual_dir is empty.*datasets/ffpp/README"
    ):
        builder.download_and_prepare()
    whole = touch_all(tmp_path / "in")
    config.data.manual_dir = str(whole)
    config.seed = 7  # draws nothing here
    assert Builder.configured(config, tmp_path).data_path == builder.data_path
    config.faces.frames = 8
    assert Builder.configured(config, tmp_path).data_path != builder.data_path
