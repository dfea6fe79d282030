"""What the builders share: killed and resumed by the command line, options, what is said."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import trees
from conftest import mark_trained

from deepfidelity_configs import celeb_df, ffpp, wild_deepfake
from deepfidelity_datasets.ffpp.ffpp_dataset_builder import Builder
from deepfidelity_jax import workdir
from deepfidelity_jax.detector import trained
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.options import checks
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.benchmark_builder import find_root
from deepfidelity_jax.records.benchmark_video import Video
from deepfidelity_jax.records.source import Produced, sum_tallies
from deepfidelity_jax.records.write import Recipe

METHODS = ("Deepfakes", "FaceSwap")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return trees.ffpp(tmp_path_factory.mktemp("ffpp"), METHODS)


def as_options(copied):
    return [
        f"--config={ffpp.__file__}",
        f"--config.data.manual_dir={copied}",
        f"--config.data.methods={METHODS!r}",
        "--config.data.incomplete=true",
        "--config.faces.detector=none",
        "--config.faces.size=48",
        "--config.faces.frames=4",
        "--mode=prepare",
    ]


def test_killed_and_started_again_leaves_the_same_records(copied, command, tmp_path, one_core):
    preparing = command(tmp_path / "run", *as_options(copied), tiny=False)
    process = preparing.start()
    place = tmp_path / "run" / "records" / "ffpp"
    end = time.monotonic() + 120
    while not list(place.glob("*/*.staging/*.npz")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    # Whatever was in hand is not counted as done, and half a file is no file.
    left = {path: path.stat().st_mtime_ns for path in place.glob("*/*.staging/*.npz")}
    assert left
    done = preparing.finish()
    assert done.returncode == 0, done.stderr
    assert "prepared 18 of 18 videos" in done.stderr or len(left) == 18
    assert "train: 6 videos, 24 frames" in done.stderr
    assert "train: 8 Deepfakes, 8 FaceSwap, 8 original faces" in done.stderr
    (found,) = place.glob("*/*.*.*")

    config = trees.set_up(ffpp.get_config(), "ffpp", copied, methods=METHODS)
    rows, metadata = trees.build(Builder, config, tmp_path / "once")
    for split, expected in rows.items():
        opened = schema.Records(found, split)
        np.testing.assert_equal([opened[index] for index in range(len(opened))], expected)
    assert schema.metadata_of(found) == metadata


def test_records_tell_how_they_were_made(copied, tmp_path, one_core):
    config = trees.set_up(ffpp.get_config(), "ffpp", copied, methods=METHODS)
    _, metadata = trees.build(Builder, config, tmp_path)
    assert metadata["faces"] == Recipe.from_config(config).faces.to_dict()
    assert metadata["quality"]["measure"] == "iso"
    assert metadata["options"]["methods"] == list(METHODS)


def test_records_that_lack_damaged_videos_say_how_to_read_them_again(tmp_path, one_core, capsys):
    copy = trees.ffpp(tmp_path / "ffpp", METHODS)
    damaged = min(copy.glob("manipulated_sequences/FaceSwap/c23/videos/*.mp4"))
    damaged.write_bytes(b"no video")
    config = trees.set_up(ffpp.get_config(), "ffpp", copy, methods=METHODS)
    trees.build(Builder, config, tmp_path / "records")
    assert "read them again" not in capsys.readouterr().err
    again = Builder.configured(config, tmp_path / "records")
    said = f"1 inputs were skipped or are incomplete: delete {again.data_path} to read them again"
    assert said in capsys.readouterr().err
    config.data.manual_dir = ""  # there is nothing to read
    Builder.configured(config, tmp_path / "records")
    assert "read them again" not in capsys.readouterr().err


def test_splits_wanted_alone_are_prepared(copied, tmp_path, one_core):
    config = trees.set_up(ffpp.get_config(), "ffpp", copied, methods=METHODS, prepare=("test",))
    rows, metadata = trees.build(Builder, config, tmp_path)
    assert rows.keys() == metadata["tally"].keys() == {"test"}
    config.data.prepare = ("testing",)
    with pytest.raises(InputError, match="choose from train, validation, test"):
        Builder.configured(config, tmp_path)


@pytest.mark.parametrize("dataset", ["ffpp", "celeb_df", "wild_deepfake"])
def test_incomplete_copies_are_told_apart_by_what_they_hold(dataset, tmp_path, tiny):
    """Any split of one is refused unless asked for; its records are never another copy's."""
    root = tmp_path / "in"
    {
        "ffpp": lambda: trees.ffpp(root, METHODS, write=touch),
        "celeb_df": lambda: trees.celeb_df(root, write=touch),
        "wild_deepfake": lambda: trees.wild_deepfake(root),
    }[dataset]()
    config = trees.set_up(tiny, dataset, root, splits=(0.6, 0.3, 0.1))
    if dataset == "ffpp":
        config.data.methods = METHODS

    def planned():
        builder = schema.builder_class(dataset).configured(config, tmp_path / "records")
        return builder.builder_config

    whole = planned()
    assert planned().name == whole.name
    names, staging = [whole.name], {whole.staging}
    for split in schema.SPLITS:
        for source in [one for one in whole.sources if one.split == split][:2]:
            away = shutil.move(source.path, tmp_path / "away")
            names.append(planned().name)
            staging.add(planned().staging)
            shutil.move(away, source.path)
    assert len(set(names)) == len(names) == 7
    assert len(staging) == 1, "what was staged before the copy grew still serves"
    with open(whole.sources[0].path, "ab") as file:
        file.write(b"more")
    assert planned().sources[0] != whole.sources[0], "a file that grows is another"
    shutil.move(root, tmp_path / "moved")
    config.data.manual_dir = str(tmp_path / "moved")
    assert planned().name == whole.name
    config.data.incomplete = False
    for split in schema.SPLITS:
        config.data.prepare = (split,)
        with pytest.raises(InputError, match=r"lacks \d+ .*--config\.data\.incomplete=true"):
            planned()


def test_the_order_of_options_makes_no_other_records(tmp_path):
    root = trees.ffpp(tmp_path / "in", METHODS, write=touch)

    def name(methods, prepare):
        config = trees.set_up(ffpp.get_config(), "ffpp", root, methods=methods, prepare=prepare)
        return Builder.configured(config, tmp_path / "out").builder_config

    plan = name(METHODS, schema.SPLITS)
    assert plan.name == plan.earlier
    assert name(METHODS[::-1], schema.SPLITS[::-1] * 2).name == plan.name
    # Earlier versions did: what they recorded is used.
    reverse = name(METHODS[::-1], schema.SPLITS).earlier
    (tmp_path / "out" / "ffpp" / reverse).mkdir(parents=True)
    assert name(METHODS[::-1], schema.SPLITS).name == reverse
    assert name(METHODS, schema.SPLITS).name == plan.name != reverse


def test_records_of_an_earlier_name_may_be_made_again(tmp_path, monkeypatch):
    """The detector that was trained on those before goes on, and on no others."""
    root = trees.ffpp(tmp_path / "in", METHODS, write=touch)
    config = trees.set_up(ffpp.get_config(), "ffpp", root, methods=METHODS[::-1])
    builder = Builder.configured(config, tmp_path / "out")
    earlier = f"{builder.builder_config.earlier}/{builder.version}"
    assert earlier != builder.contents
    mark_trained(tmp_path)
    for trained_on in (earlier, builder.contents):
        notes = {"trained_on": trained_on}
        monkeypatch.setattr(trained, "read_notes", lambda *_, notes=notes: notes)
        trained.require_trained_on(builder, tmp_path)
    monkeypatch.setattr(trained, "read_notes", lambda *_: {"trained_on": "ffpp-other/1.0.0"})
    with pytest.raises(InputError, match="was trained on other pictures"):
        trained.require_trained_on(builder, tmp_path)


def test_a_split_without_a_class_is_refused_before_anything_is_read(tmp_path):
    root = trees.ffpp(tmp_path / "in", METHODS, write=touch)
    config = trees.set_up(ffpp.get_config(), "ffpp", root, methods=METHODS)
    for path in trees.some_pairs()["validation"][0]:
        (root / f"original_sequences/youtube/c23/videos/{path}.mp4").unlink()
    with pytest.raises(InputError, match="holds no real videos for the validation split"):
        Builder.configured(config, tmp_path / "out")
    config.data.prepare = ("train", "test")
    Builder.configured(config, tmp_path / "out")
    for path in trees.some_pairs()["test"][0]:
        (root / f"original_sequences/youtube/c23/videos/{path}.mp4").unlink()
    config.data.prepare = ("test",)
    with pytest.raises(InputError, match="for the test split: add some$"):
        Builder.configured(config, tmp_path / "out")


def touch(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize("module", [ffpp, celeb_df, wild_deepfake])
def test_configs_build_their_builders(module, tmp_path):
    """Each names a builder that can be configured before a copy is there."""
    config = module.get_config()
    assert config.data.dataset == Path(module.__file__).stem
    builder = schema.builder_class(config.data.dataset).configured(config, tmp_path)
    assert builder.name == config.data.dataset
    assert builder.get_metadata().description
    assert builder.get_metadata().citation
    text = module.__doc__
    assert f"--config=configs/{config.data.dataset}.py --config.data.manual_dir=" in text
    assert "The paper reports" in text


def test_where_a_copy_lies_may_change(tmp_path):
    """A run goes on after its data has moved; what changes the records is another run."""
    config = ffpp.get_config()
    workdir.claim(tmp_path, config)
    config.data.manual_dir, config.data.beam = "elsewhere", "--runner=FlinkRunner"
    config.leaks.allow = ("video:train-test",)
    checks.require_same(tmp_path, config)
    config.data.compression = "c40"
    with pytest.raises(InputError, match=r"data\.compression is 'c23' there and 'c40' here"):
        checks.require_same(tmp_path, config)


def test_a_root_is_found_or_pointed_at(tmp_path):
    (tmp_path / "a" / "real").mkdir(parents=True)
    assert find_root(tmp_path / "a", ("real",), "x") == tmp_path / "a"
    with pytest.raises(InputError, match=r"which has a but no real/: give .*/a$"):
        find_root(tmp_path, ("real",), "x")
    with pytest.raises(InputError, match=r"which has a but no fake/: .* datasets/x/README\.md"):
        find_root(tmp_path, ("fake",), "x")


def test_tallies_are_summed_by_split():
    seen = [
        (source("a", "train"), {"a": {"videos": 1, "frames": 4, "unreadable frames": 1}}),
        (source("b", "train"), {"b": {"videos": 1, "frames": 3, "unreadable frames": 0}}),
        (source("c", "test"), {"c": {"videos": 1, "unreadable videos": 1}}),
    ]
    produced = [(one, Produced([], "", tally)) for one, tally in seen]
    total, listed = sum_tallies(produced)
    assert total == {
        "train": {"videos": 2, "frames": 7, "unreadable frames": 1},
        "test": {"videos": 1, "unreadable videos": 1},
    }
    assert listed == {
        "train": {"unreadable frames": {"a": 1}},
        "test": {"unreadable videos": {"c": 1}},
    }


def source(name, split):
    return Video(name, name, 1, "original", name, split)
