"""Files are whole or not there, and one process's at a time."""

import os
import subprocess
import sys
from hashlib import sha256

import pytest

from deepfidelity_jax import files
from deepfidelity_jax.errors import InputError


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.written_whole(path, "w") as file:
        file.write("one")
        file.flush()
        assert not path.exists()
    assert path.read_text() == "one"
    assert os.listdir(path.parent) == ["a.txt"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), files.written_whole(path, "w") as file:
        file.writelines(["half", None])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def leave_partial(path):
    """What a process leaves that is killed while it writes a file."""
    code = "import os, sys; from deepfidelity_jax.files import written_whole\n"
    code += "with written_whole(sys.argv[1]): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, path], check=False)


def test_only_partial_files_are_removed(tmp_path):
    own = tmp_path / "deeper" / "own"
    own.mkdir(parents=True)
    (own / files.LOCK).write_text("")  # another process may be writing there
    # Hidden files of the user's, who may have named the home folder.
    for name in (".env.2024", ".a.npz.4711", ".lock", ".b", "a.47.partial", ".a.partial"):
        (tmp_path / name).write_text("")
    before = sorted(tmp_path.rglob("*"))
    for place in (tmp_path, tmp_path / "deeper"):
        leave_partial(place / "a.npz")
    assert len(list(tmp_path.rglob("*"))) == len(before) + 2
    leave_partial(own / "b.npz")
    files.remove_partial(tmp_path)
    (kept,) = set(tmp_path.rglob("*")) - set(before)
    assert kept.parent == own
    files.remove_partial(own)
    assert sorted(tmp_path.rglob("*")) == before


def test_places_that_cannot_be_written(tmp_path):
    files.require_writable(tmp_path / "new" / "a.txt", "--output")
    (tmp_path / "file").write_text("")
    for path, reason in ((tmp_path, "is a folder"), (tmp_path / "file" / "a", "is not a folder")):
        with pytest.raises(InputError, match=f"^--output={path} cannot be written: .* {reason}$"):
            files.require_writable(path, "--output")


def test_a_place_that_takes_no_file_is_told(tmp_path):
    """By trying, as to root every folder looks writable."""
    for path in ("/proc/x", "/proc/x/page.html", tmp_path / ("x" * 250)):
        with pytest.raises(InputError, match=f"^--output={path} cannot be written: no file can be"):
            files.require_writable(path, "--output")
    files.require_writable(tmp_path / "new" / "a.txt", "--output")
    assert not list(tmp_path.iterdir())


def test_a_lock_is_one_process_s(tmp_path):
    path = tmp_path / "lock"
    code = "import sys; from deepfidelity_jax import files; "
    code += "file = open(sys.argv[1], 'wb'); print(files.lock(file))"

    def other():
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
        return done.stdout.strip()

    with path.open("wb") as file:
        assert files.lock(file)
        assert other() == "False"
    assert other() == "True"


def test_a_digest_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert files.digest(tmp_path / "a") == sha256(b"content").hexdigest()
