"""The server as a process: one line where it cannot start, nothing left, and it outlives files."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import time

import cv2
import httpx
import numpy as np
import pytest
import trees
from conftest import assert_told
from PIL import Image
from serving import Server

from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.server.connections import MOST
from deepfidelity_jax.server.serve import PREFIX

pytestmark = pytest.mark.e2e
BLANK = np.full((48, 64, 3), 120, np.uint8)
WALL = encode_image(BLANK)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video that takes its time."""
    path = tmp_path_factory.mktemp("given") / "clip.mp4"
    trees.write_video(path, trees.film(1, count=40) * 20)
    return path.read_bytes()


def test_wrong_flags_end_in_one_line(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_told(run("--mode=serve", f"--port={port}"), f"--port={port}", "another program")
    assert_told(run("--mode=serve", "--port=70000"), "70000")
    for host in ("a..b", "a" * 64):
        assert_told(run("--mode=serve", f"--host={host}"), f"--host={host}: not a valid")
    assert_told(run("--mode=serve", "--host=192.0.2.1", "--port=0"), "--host=192.0.2.1")
    assert_told(run("--mode=serve", "--input=a.jpg"), "--input is not for --mode=serve")
    assert_told(run("--mode=predict", "--port=1"), "--port is not for --mode=predict")


def test_the_verdict_is_the_line_of_predict(server, run, tmp_path):
    Image.fromarray(trees.draw_person(3)).save(tmp_path / "anna.jpg", quality=95)
    _, out, _ = run("--mode=predict", f"--input={tmp_path / 'anna.jpg'}", "--quiet")
    line = json.loads(out)
    job = server.wait(server.post("anna.jpg", (tmp_path / "anna.jpg").read_bytes()))
    told = job["prediction"]
    assert list(told) == list(line)
    for name in set(line) - {"input", "modified", "fidelity", "p_fake", "faces"}:
        assert told[name] == line[name], name
    assert told["input"] == "anna.jpg"
    # Another number of devices adds in another order.
    assert told["fidelity"] == pytest.approx(line["fidelity"], abs=1e-4)
    page = server.client.get(job["page"])
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert "anna.jpg" in page.text
    assert str(server.temporary) not in page.text
    assert [path.name for path in server.files()] == ["page.html"]
    assert server.client.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert not server.files()
    assert server.client.get(job["page"]).status_code == 404


def test_a_decoder_that_dies_takes_no_server_along(server, clip):
    """One job fails, and the one behind it is scored by the next process."""
    doomed = server.post("clip.mp4", clip)
    behind = server.post("wall.jpg", WALL)
    server.wait(doomed, "running")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSEGV)
    error = server.wait(doomed)["error"]
    assert error["type"] == "crashed"
    assert "SIGSEGV" in error["message"]
    assert server.wait(behind)["prediction"]["status"] == "no face"
    assert server.workers() != [worker]
    assert server.client.delete(behind.headers["location"]).status_code == 204


def test_hostile_files_are_told_apart(server, tmp_path):
    """Each ends in an answer of its own; none holds up the server."""
    trees.bad_files(tmp_path)
    bomb = server.wait(server.post("bomb.png", (tmp_path / "huge.png").read_bytes()))
    assert bomb["prediction"]["note"] == "30000x30000 pixels, more than 178 million"
    trees.write_video(tmp_path / "a.avi", [BLANK] * 4)
    claims = server.wait(server.post("million.avi", claim_frames(tmp_path / "a.avi", 10**6)))
    assert claims["state"] == "done"
    assert claims["prediction"]["frames"] == 4
    slow = cv2.VideoWriter(str(tmp_path / "long.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 1, (64, 48))
    for _ in range(700):
        slow.write(BLANK)
    slow.release()
    long = server.wait(server.post("long.avi", (tmp_path / "long.avi").read_bytes()))
    assert long["error"] == {
        "type": "too_long", "message": "the video lasts 700 seconds, more than 600", "limit": 600
    }  # fmt: skip
    named = f"{os.pardir}/{os.pardir}/x<img src=x onerror=alert(1)>.png"
    outside = server.wait(server.post(named, (tmp_path / "dot.png").read_bytes()))
    assert outside["name"] == "x<img src=x onerror=alert(1)>.png"
    page = server.client.get(outside["page"]).text
    assert "<img src=x" not in page
    assert "x&lt;img src=x" in page
    for job in (bomb, claims, long, outside):
        server.client.delete(f"/api/jobs/{job['id']}")
    assert not [path for path in server.temporary.iterdir() if not path.name.startswith(PREFIX)]


def claim_frames(path, count):
    """An AVI whose headers give another number of frames."""
    content = bytearray(path.read_bytes())
    for chunk, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        at = content.index(chunk) + offset
        content[at : at + 4] = count.to_bytes(4, "little")
    return bytes(content)


def test_what_is_announced_as_huge_is_refused_at_once(server):
    head = (
        f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10 * 2**30}\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
    )
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=20) as announced:
        announced.sendall(head.encode())
        answer = ""
        while "}}" not in answer:  # the head and the body may come apart
            piece = announced.recv(4096)
            assert piece, answer
            answer += piece.decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert '"type":"too_large"' in answer
    assert not server.files()


def test_connections_that_ask_nothing_keep_nobody_out(server):
    address = httpx.URL(server.url)
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection((address.host, address.port), timeout=20))
            for _ in range(MOST + 8)
        ]
        for one in held:
            with contextlib.suppress(ConnectionError):
                one.sendall(b"GET / HTTP/1.1\r\n")  # half a header
        assert server.client.get("/api/limits").status_code == 200
        with contextlib.suppress(ConnectionError):
            assert not held[0].recv(1)


def test_a_running_job_is_cancelled(server, clip):
    """The last test of this server, whose worker it ends."""
    posted = server.post("clip.mp4", clip)
    server.wait(posted, "running")
    with server.client.stream("GET", posted.headers["location"] + "/events") as events:
        server.client.delete(posted.headers["location"])
        told = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data:")]
    assert told[-1]["state"] == "cancelled"
    deadline = time.monotonic() + 10
    while server.files():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A server for one file at a time, a second to upload it, and a second to score it.

    Before it begins, `left` is what a killed server has left behind.
    """
    folder = tmp_path_factory.mktemp("strict")
    left = folder / f"{PREFIX}left"
    left.mkdir()
    (left / ".lock").touch()
    (left / "face.jpg").touch()
    server = Server(folder, jobs=1, upload_seconds=1, job_seconds=1)
    yield server
    server.process.kill()


def typed(answer):
    return answer.status_code, answer.json()["error"]["type"]


def test_what_stalls_or_does_not_fit_frees_its_place(strict, clip):
    head = (
        "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\n\r\n--edge\r\n"
    )
    address = httpx.URL(strict.url)
    with socket.create_connection((address.host, address.port), timeout=20) as stalled:
        stalled.sendall(head.encode())  # and nothing more, for ever
        assert typed(strict.post("wall.jpg", WALL)) == (429, "too_many_jobs")
        answer = b""
        while piece := stalled.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"type":"upload_too_slow"' in answer
    assert not strict.files()
    # No file of the server may grow beyond this, as if its disk were full.
    usual = resource.prlimit(strict.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(strict.process.pid, resource.RLIMIT_FSIZE, (100, usual[1]))
    full = strict.post("wall.jpg", WALL)
    resource.prlimit(strict.process.pid, resource.RLIMIT_FSIZE, usual)
    assert typed(full) == (503, "disk_full")
    assert int(full.headers["retry-after"]) > 0
    assert not strict.files()
    job = strict.wait(strict.post("clip.mp4", clip))
    told = "the file takes more than 1 seconds"
    assert job["error"] == {"type": "too_slow", "message": told, "limit": 1}
    deadline = time.monotonic() + 10
    while strict.files():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_ends_in_order_and_what_a_killed_one_left_goes(strict):
    """The last test of this server."""
    (folder,) = strict.temporary.iterdir()
    assert folder.name != f"{PREFIX}left"
    assert folder.stat().st_mode & 0o777 == 0o700
    posted = strict.post("wall.jpg", WALL)
    assert posted.status_code == 202
    assert len(strict.files()) == 1
    deadline = time.monotonic() + 10
    while not (workers := strict.workers()):
        assert time.monotonic() < deadline
    # SIGHUP is passed on as SIGTERM, unless it is ignored, as below nohup.
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    status, said = strict.end(signal.SIGTERM if ignored else signal.SIGHUP)
    assert (status, said) == (0, "the server has stopped; all uploaded files are deleted\n")
    assert not list(strict.temporary.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(workers[0], 0)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", strict.url)
