"""Staging: in parallel, killed and resumed without a trace, nothing left out in silence."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from deepfidelity_jax.processes.workers import NEVER_BEGAN
from deepfidelity_jax.records import staging
from deepfidelity_jax.records.source import Face, Produced
from deepfidelity_jax.records.staging import rate, stage, staged, staged_path


@dataclass(frozen=True)
class Number:
    """A source with `count` faces."""

    name: str
    count: int = 2
    split: str = "train"


def make_face(name, frame, **changes):
    fields = {
        "split": "train",
        "image": f"{name}/{frame}".encode() * (frame + 1),
        "label": frame % 2,
        "method": "original",
        "video_id": name,
        "frame": frame,
        "path": f"{name}.png",
        "quality": 0.25 * frame,
        "landmarks": np.full((5, 2), frame, np.float32),
    }
    return Face(**fields | changes)


def produce(source):
    """Faces that tell where they come from; nothing of the source named `none`."""
    note = "nothing in it" if source.name == "none" else ""
    count = 0 if note else source.count
    faces = [make_face(source.name, frame) for frame in range(count)]
    return Produced(faces, note, {source.name: {"frames": source.count}})


def assert_same_faces(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in Face.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
            assert type(getattr(one, name)) is type(getattr(other, name)), name


def test_staged_faces_are_those_produced(tmp_path):
    sources = [Number("b", 3), Number("none"), Number("a", 1), Number("zero", 0)]
    seen = stage(sources, produce, tmp_path, unit="numbers", workers=1)
    assert [source for source, _ in seen] == sources
    assert [produced.note for _, produced in seen] == ["", "nothing in it", "", ""]
    assert [produced.tally for _, produced in seen] == [
        {s.name: {"frames": s.count}} for s in sources
    ]
    expected = [face for source in sources for face in produce(source).faces]
    assert_same_faces(list(staged(sources, tmp_path)), expected)


def test_what_is_staged_is_not_produced_again(tmp_path):
    sources = [Number(name) for name in "abcd"]
    stage(sources[:2], produce, tmp_path, unit="numbers", workers=1)
    (tmp_path / "half.1234").write_bytes(b"a killed write")
    asked = []

    def watched(source):
        asked.append(source.name)
        return produce(source)

    stage(sources, watched, tmp_path, unit="numbers", workers=1)
    assert asked == ["c", "d"]
    expected = [face for source in sources for face in produce(source).faces]
    assert_same_faces(list(staged(sources, tmp_path)), expected)


def test_what_is_staged_serves_among_other_sources(tmp_path):
    """More of them, or others of the same name, as when a copy grows or a label is corrected."""
    first = [Number("a"), Number("b"), Number("c")]
    stage(first, produce, tmp_path, unit="numbers", workers=1)
    asked = []

    def watched(source):
        asked.append(source)
        return produce(source)

    now = [first[0], replace(first[1], split="test"), replace(first[2], count=3), Number("d")]
    stage(now, watched, tmp_path, unit="numbers", workers=1)
    assert asked == now[1:]
    expected = [face for source in now for face in produce(source).faces]
    assert_same_faces(list(staged(now, tmp_path)), expected)


def test_an_error_keeps_what_was_done(tmp_path):
    def fails(source):
        if source.name == "c":
            raise OSError("the disk is gone")
        return produce(source)

    sources = [Number(name) for name in "abcd"]
    with pytest.raises(OSError, match="disk"):
        stage(sources, fails, tmp_path, unit="numbers", workers=1)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert not list(tmp_path.glob("*.begun")), "only a process that dies leaves a mark"


class Heavy:
    """`produce`, and how often it was pickled."""

    pickled = 0

    def __call__(self, source):
        return produce(source)

    def __getstate__(self):
        Heavy.pickled += 1
        return {}


@pytest.mark.slow
def test_what_produces_the_faces_is_not_sent_with_every_source(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(staging, "PARTS", 3)
    sources = [Number(name) for name in "abcdefgh"]
    stage(sources, Heavy(), tmp_path, unit="numbers", workers=2)
    assert Heavy.pickled == 3
    assert "prepared 8 of 8 numbers" in capsys.readouterr().err
    expected = [face for source in sources for face in produce(source).faces]
    assert_same_faces(list(staged(sources, tmp_path)), expected)


class Counted:
    """A measure of many faces, and how many it was given each time; fails when told to."""

    def __init__(self, calls=99):
        self.calls, self.given = calls, []

    def __call__(self, images, landmarks):
        assert len(images) == len(landmarks)
        self.given.append(len(images))
        if len(self.given) > self.calls:
            raise OSError("the device is gone")
        found = np.array(
            [len(image) + points[0, 0] for image, points in zip(images, landmarks, strict=True)]
        )
        return np.where(found > 160, np.nan, found).astype(np.float32)


def test_staged_faces_are_rated_together(tmp_path):
    sources = [Number("a", 50), Number("none"), Number("b", 50), Number("zero", 0), Number("c", 3)]
    stage(sources, produce, tmp_path, unit="numbers", workers=1)
    before = list(staged(sources, tmp_path))
    measure = Counted()
    rate(sources, tmp_path, measure, unit="numbers")
    assert measure.given == [100, 3], "many at once, across sources"
    after = list(staged(sources, tmp_path))
    for one, other in zip(before, after, strict=True):
        expected = len(one.image) + one.frame
        expected = expected if expected <= 160 else np.nan
        np.testing.assert_equal(other.quality, expected)
        assert type(other.quality) is float
    assert 0 < np.isnan([face.quality for face in after]).sum() < len(after)
    assert_same_faces([replace(face, quality=0.0) for face in after],
                      [replace(face, quality=0.0) for face in before])  # fmt: skip
    again = Counted()
    rate(sources, tmp_path, again, unit="numbers")
    assert again.given == []


def test_rating_goes_on_where_it_stopped(tmp_path):
    sources = [Number(name, 40) for name in "abcdef"]
    stage(sources, produce, tmp_path, unit="numbers", workers=1)
    with pytest.raises(OSError, match="device"):
        rate(sources, tmp_path, Counted(calls=2), unit="numbers")
    rest = Counted()
    rate(sources, tmp_path, rest, unit="numbers")
    assert rest.given == [80], "four of six were rated before"
    stage(sources, produce, tmp_path / "other", unit="numbers", workers=1)
    rate(sources, tmp_path / "other", Counted(), unit="numbers")
    assert_same_faces(list(staged(sources, tmp_path)), list(staged(sources, tmp_path / "other")))


def test_the_same_picture_is_rated_once(tmp_path):
    def twice(source):
        (face,) = produce(source).faces
        return Produced([face, replace(face, frame=1)])

    measure = Counted()
    stage([Number("a", 1)], twice, tmp_path, unit="numbers", workers=1)
    rate([Number("a", 1)], tmp_path, measure, unit="numbers")
    assert measure.given == [1]
    first, second = staged([Number("a", 1)], tmp_path)
    assert first.quality == second.quality == len(first.image)


def test_workers_do_not_outlive_a_killed_preparation(command, tmp_path):
    preparing = command(tmp_path, "--mode=prepare")
    process = preparing.start()
    staging = tmp_path / "records" / "synthetic_faces"
    while not list(staging.glob("*/*.staging/*.npz")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    try:
        while group_is_alive(process.pid):
            assert time.monotonic() < end, "workers still run"
            time.sleep(0.1)
    finally:
        if group_is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from deepfidelity_jax.processes import console
from deepfidelity_jax.records.staging import stage
from test_staging import Number, produce

sources, place = [Number(name) for name in "abcd"], Path(sys.argv[2])
def command():
    stage(sources, produce, place, unit="numbers", workers=2)
    return 0

sys.exit(console.end(command, str))
"""


def test_workers_that_never_begin_end_the_preparation(tmp_path):
    """Those of a script without the guard: each runs the script again, and may not start others."""
    script, place = tmp_path / "script.py", tmp_path / "staging"
    script.write_text(SCRIPT)
    place.mkdir()
    killed = staged_path(place, Number("b")).with_suffix(".begun")
    killed.touch()  # of a preparation killed before
    done = subprocess.run(
        [sys.executable, script, Path(__file__).parent, place],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2, done.stderr
    # The workers' own tracebacks, and Python's about them, may follow it.
    assert f"deepfidelity: {NEVER_BEGAN}" in done.stderr.splitlines()
    assert list(place.glob("*.npz")) == [], "no source is to blame"


def test_what_gave_nothing_is_produced_again(tmp_path):
    """A damaged file may have been replaced."""
    sources = [Number("a"), Number("none"), Number("b"), Number("half")]

    def half(source):
        told = {source.name: {"frames": 2, "unreadable frames": int(source.name == "half")}}
        return replace(produce(source), tally=told)

    stage(sources, half, tmp_path, unit="numbers", workers=1)
    rate(sources, tmp_path, lambda images, eyes: np.ones(len(images)), unit="numbers")

    def mended(source):
        assert source.name in ("none", "half"), "what is whole is kept"
        return Produced([make_face(source.name, 0)])

    seen = stage(sources, mended, tmp_path, unit="numbers", workers=1)
    assert [produced.note for _, produced in seen] == [""] * 4
    rate(sources, tmp_path, lambda images, eyes: np.ones(len(images)), unit="numbers")
    assert [face.video_id for face in staged(sources, tmp_path)] == [
        "a", "a", "none", "b", "b", "half",
    ]  # fmt: skip
