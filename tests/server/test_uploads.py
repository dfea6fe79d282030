"""A file out of a form: under a safe name, never more of it than allowed, or a typed refusal."""

import os

import pytest
from asking import LIMITS, PICTURE, ask, form

from deepfidelity_jax.server.uploads import FRAMING, safe_name


def test_the_file_arrives_as_it_is(tmp_path):
    tricky = PICTURE + b"\r\n--edg\r\n\r\n--"  # almost a boundary
    note = (b'name="note"', b"not the file")
    (answer,) = ask(tmp_path, form(note, (b'name="file"; filename="a b.jpg"', tricky)))
    assert answer.status_code == 202
    job = answer.json()
    assert (job["name"], job["bytes"], job["state"], job["position"]) == (
        "a b.jpg", len(tricky), "queued", 1
    )  # fmt: skip
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.read_bytes() == tricky
    assert path.parts[-3:] == (job["id"], "upload", "a b.jpg")


@pytest.mark.parametrize(
    ("given", "status", "type"),
    [
        (form((b'name="file"; filename="a"', bytes(LIMITS.bytes + 1))), 413, "too_large"),
        (form((b'name="note"', bytes(LIMITS.bytes + FRAMING))), 413, "too_large"),
        (
            form((b'name="note"', bytes(FRAMING)), (b'name="file"; filename="a"', PICTURE)),
            422,
            "bad_form",
        ),
        (form((b'name="file"; filename="a.jpg"', b"words")), 415, "not_media"),
        (form((b'name="file"; filename="a.jpg"', b"")), 415, "not_media"),
        (form((b'name="file"', PICTURE)), 422, "bad_form"),
        (form((b'name="other"; filename="a"', PICTURE)), 422, "bad_form"),
        (form(*2 * [(b'name="file"; filename="a"', PICTURE)]), 422, "bad_form"),
        (form((b'name="file"; filename="a"', PICTURE), end=b""), 422, "bad_form"),
        (form(end=b"no form at all"), 422, "bad_form"),
        ({"method": "POST", "url": "/api/jobs", "json": {}}, 415, "not_multipart"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, given, status, type):
    (answer,) = ask(tmp_path, given)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, type)
    assert error["limit"] == (LIMITS.bytes if status == 413 else None)
    assert error["message"]
    assert not list(tmp_path.rglob("*"))


def test_the_number_of_jobs_is_limited(tmp_path):
    post = form((b'name="file"; filename="a.jpg"', PICTURE))
    *taken, refused = ask(tmp_path, *[post] * (LIMITS.jobs + 1))
    assert [answer.json()["position"] for answer in taken] == [1, 2, 3]
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "too_many_jobs")
    assert refused.json()["error"]["limit"] == LIMITS.jobs
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("anna.jpg", "anna.jpg"),
        (f"{os.pardir}/{os.pardir}/x.jpg", "x.jpg"),
        ("C:\\pictures\\x.jpg", "x.jpg"),
        ("/etc/passwd", "passwd"),
        ("..", "file"),
        ("", "file"),
        ("a\0b\n\x1b[2J.jpg", "ab[2J.jpg"),
        ("exe.\u202egpj", "exe.gpj"),
        ("<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png"),
        ("grüße 写真.jpg", "grüße 写真.jpg"),
    ],
)
def test_names_are_safe(given, safe):
    assert safe_name(given) == safe


def test_long_names_keep_their_suffix():
    for letter in "a", "ü", "写":
        name = safe_name(f"{letter * 400}.jpeg")
        assert name.endswith(f"{letter}.jpeg")
        assert len(name.encode()) <= 200
