"""Jobs are taken as long as one process is ready, whatever becomes of the others."""

import asyncio
import json
import os
import resource
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deepfidelity_jax.detector import bundled
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.server import scorer, workers
from deepfidelity_jax.server.jobs import Jobs
from deepfidelity_jax.server.messages import Limits
from deepfidelity_jax.server.refusal import Refused

LIMITS = Limits(workers=2)
PATIENCE = 60  # seconds


def work(connection, workdir, folder, limits):
    """A scorer that gets ready if it finds a token in `folder`; else it dies or refuses, in turn.

    A file of `crash` ends it; of any other it says what is in it.
    """
    started = len(list(folder.glob("start*")))
    (folder / f"start{started}.{os.getpid()}").touch()
    try:
        next(folder.glob("token*")).unlink()
    except (StopIteration, FileNotFoundError):
        if started % 2:
            os._exit(3)
        return connection.send_bytes(b'{"refused": "no detector"}')
    connection.send_bytes(b'{"ready": true}')
    while True:
        with open(json.loads(connection.recv_bytes())["path"]) as file:
            content = file.read()
        if content == "crash":
            os._exit(3)
        connection.send_bytes(json.dumps({"prediction": {"status": content}}).encode())
        connection.send_bytes(b'{"ready": true}')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where tokens are put, and processes leave a sign of their start."""
    monkeypatch.setattr(workers.scorer, "work", work)  # in a process of its own all the same
    monkeypatch.setattr(workers, "LONGEST_PAUSE_S", 0.1)
    (tmp_path / "jobs").mkdir()
    return tmp_path


def serving(folder, limits=LIMITS):
    jobs = Jobs(folder / "jobs", limits)
    return jobs, workers.Workers(jobs, None, folder, limits)


def started(folder):
    return len(list(folder.glob("start*")))


def post(jobs, content):
    with jobs.arriving() as (id, place):
        (place / "a.jpg").write_text(content)
        return jobs.add(id, place / "a.jpg")


async def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def verdict(jobs, content):
    """The prediction about a file, once its job has ended."""
    job = post(jobs, content)
    await until(lambda: job.ended)
    return job.view()["prediction"]


def test_a_packed_detector_is_read_and_nothing_is_written_beside_it(tmp_path, monkeypatch):
    """Nor are programs loaded from it, which would be run: it may come from anywhere."""
    kept = []
    monkeypatch.setattr("deepfidelity_jax.workdir.keep_programs", kept.append)
    monkeypatch.setattr("cv2.setNumThreads", lambda count: None)
    place = shutil.copytree(bundled.folder(), tmp_path / "hub")
    for workdir in (None, str(place)):
        scorer._load(workdir, tmp_path / "cache", LIMITS)
    assert kept == [tmp_path / "cache"] * 2


@pytest.mark.slow
def test_one_that_is_ready_takes_jobs_while_others_cannot_load(folder):
    async def serve():
        jobs, all_of_them = serving(folder)
        (folder / "token").touch()
        async with all_of_them:
            while started(folder) < 4:
                assert await verdict(jobs, "real") == {"status": "real"}
                await asyncio.sleep(0.05)
            # The last one goes: nothing is taken until another is ready.
            job = post(jobs, "crash")
            await until(lambda: jobs.broken)
            assert job.view()["error"]["type"] == "crashed"
            with pytest.raises(Refused, match="while it loaded the detector|no detector"):
                post(jobs, "real")
            (folder / "token").touch()
            await until(lambda: not jobs.broken)
            before = started(folder)
            await until(lambda: started(folder) > before + 1)
            assert await verdict(jobs, "fake") == {"status": "fake"}

    asyncio.run(serve())


def test_a_server_whose_first_process_cannot_load_does_not_start(folder):
    async def serve():
        async with serving(folder)[1]:
            raise AssertionError("it started")

    with pytest.raises(InputError, match="no detector"):
        asyncio.run(serve())


@pytest.mark.slow
def test_a_system_without_room_for_a_process_is_asked_again(folder):
    async def serve():
        jobs, all_of_them = serving(folder, Limits(workers=1))
        for name in "ab":
            (folder / f"token{name}").touch()
        usual = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with all_of_them:
            job = post(jobs, "crash")
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, usual[1]))  # nothing more is opened
            try:
                await until(lambda: jobs.broken)
                assert job.view()["error"]["type"] == "crashed"
                with pytest.raises(Refused, match="can be started: too many open files") as caught:
                    post(jobs, "real")
                assert (caught.value.status, caught.value.error.type) == (503, "no_worker")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, usual)
            await until(lambda: not jobs.broken)
            assert await verdict(jobs, "real") == {"status": "real"}

    asyncio.run(serve())


class Full(ThreadPoolExecutor):
    """Threads of a system that has no room for another while `full`."""

    full = False

    def submit(self, *call, **named):
        if self.full:
            raise RuntimeError("can't start new thread")
        return super().submit(*call, **named)


@pytest.mark.slow
def test_a_system_without_room_for_a_thread_is_asked_again(folder):
    async def serve():
        jobs, all_of_them = serving(folder, Limits(workers=1))
        for name in "ab":
            (folder / f"token{name}").touch()
        threads = Full()
        asyncio.get_running_loop().set_default_executor(threads)
        async with all_of_them:
            threads.full = True
            job = post(jobs, "real")
            await until(lambda: jobs.broken)
            assert job.view()["error"]["message"].endswith("no thread can be started")
            with pytest.raises(Refused, match="no thread can be started"):
                post(jobs, "real")
            threads.full = False
            await until(lambda: not jobs.broken)
            assert await verdict(jobs, "real") == {"status": "real"}

    asyncio.run(serve())


@pytest.mark.slow
def test_a_detector_without_its_face_finder_does_not_start(tmp_path):
    """The reason is told once, instead of at every file."""
    detector = tmp_path / "detector"
    shutil.copytree(bundled.folder(), detector)
    config = json.loads((detector / "config.json").read_text())
    config["faces"]["detector"] = "yunet"
    (detector / "config.json").write_text(json.dumps(config))
    (detector / bundled.FINDER).write_text("no network")
    limits = Limits(workers=1)

    async def serve():
        async with workers.Workers(Jobs(tmp_path, limits), str(detector), tmp_path, limits):
            raise AssertionError("it started")

    with pytest.raises(InputError, match="not a YuNet ONNX file"):
        asyncio.run(serve())
