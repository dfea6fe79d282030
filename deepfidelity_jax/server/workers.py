"""The processes that read files: started, watched and replaced by the server.

If a decoder crashes, hangs or uses too much memory, its process ends and its job gets an error. The
server itself never decodes anything.
"""

import asyncio
import contextlib
import json
import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.processes.workers import undisturbed
from deepfidelity_jax.server import scorer
from deepfidelity_jax.server.jobs import Job, Jobs
from deepfidelity_jax.server.messages import Limits

LONGEST_MESSAGE = 16 * 2**20  # bytes; a prediction has a few hundred per person
LONGEST_PAUSE_S = 30  # between attempts to start a process that ends while loading


class Workers:
    """All worker processes of a server, as a context manager that waits for the last to end.

    Args:
      jobs: the jobs that they take.
      workdir: the workdir of the detector; None for the bundled one.
      cache: folder for compiled programs.
      limits: the limits of the server.

    Raises:
      InputError: on entry, if there is no such detector, or it cannot be loaded here.
    """

    def __init__(self, jobs: Jobs, workdir: str | None, cache: Path, limits: Limits):
        self._jobs, self._limits = jobs, limits
        self._arguments = (workdir, cache, limits)
        self._tasks: list[asyncio.Task] = []
        self._ready = 0  # processes that have loaded the detector and take jobs

    async def __aenter__(self):
        self._first = asyncio.get_running_loop().create_future()
        self._add()
        try:
            await self._first
        except BaseException:
            await self.__aexit__()
            raise
        while len(self._tasks) < self._limits.workers:
            self._add()  # after the first one has loaded, as all need the same compiled programs
        return self

    async def __aexit__(self, *error):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _add(self) -> None:
        self._tasks.append(asyncio.create_task(self._keep_one()))

    async def _keep_one(self) -> None:
        """Start a process, give it jobs, and start another when it ends."""
        failures = 0
        while True:
            try:
                async with _Process(*self._arguments) as process:
                    await process.wait_until_ready()
                    failures = 0
                    if not self._first.done():
                        self._first.set_result(None)
                    with self._counted():
                        await self._feed(process)
            except _Gone as gone:
                failures += 1
                if not self._ready:
                    self._jobs.broken = str(gone)
                if not self._first.done():
                    self._first.set_exception(InputError(str(gone)))
            if failures:
                await asyncio.sleep(min(2**failures, LONGEST_PAUSE_S))

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a process among those that are ready."""
        self._ready, self._jobs.broken = self._ready + 1, ""
        try:
            yield
        finally:
            self._ready -= 1

    async def _feed(self, process: "_Process") -> None:
        """Give a process job after job until it has ended."""
        while True:
            job = await self._jobs.take()
            if not process.is_alive():
                return self._jobs.put_back(job)
            if not await self._score(process, job):
                return None

    async def _score(self, process: "_Process", job: Job) -> bool:
        """Have one job scored. Returns whether the process is ready for another."""
        limit = self._limits.job_seconds
        late = ("too_slow", f"the file takes more than {limit} seconds", limit)
        job.begin(process.kill)
        timer = asyncio.get_running_loop().call_later(limit, job.fail, *late)
        try:
            process.tell(path=str(job.path), page=str(job.page))
            while not (message := await process.hear()).get("ready"):
                job.hear(message)
            return True
        except _NoThread as full:  # not the file's fault
            await process.end()
            job.fail("internal", f"the file could not be scored: {full}")
            return False
        except (_Gone, ValueError, TypeError, LookupError):  # ended, or sent an invalid message
            await process.end()
            job.fail(
                "crashed", f"{process.epitaph()} while it read this file, which may be damaged"
            )
            return False
        finally:
            timer.cancel()
            self._jobs.end(job)


class _Gone(Exception):
    """A process has ended; the message says why, if that is known."""


class _NoThread(_Gone):
    """The system cannot start a thread that waits for the process."""


class _Process:
    """One worker process and the pipe to it; a context manager that ends it.

    Raises _Gone if the system cannot start another.
    """

    def __init__(self, *arguments):
        context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
        try:
            self._pipe, its = context.Pipe()
            self._process = context.Process(target=scorer.work, args=(its, *arguments), daemon=True)
            with undisturbed():
                self._process.start()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise _Gone(f"no worker process can be started: {reason}") from None
        its.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        await self.end()

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    async def wait_until_ready(self) -> None:
        """Wait until the detector is loaded; _Gone if it cannot be loaded."""
        try:
            message = await self.hear()
        except _Gone as gone:
            await self.end()
            reason = str(gone) or f"{self.epitaph()} while it loaded the detector"
            raise _Gone(reason) from None
        if "refused" in message:
            raise _Gone(message["refused"])

    def tell(self, **message) -> None:
        """Send it a message; _Gone if it has ended."""
        try:
            self._pipe.send_bytes(json.dumps(message).encode())
        except OSError:
            raise _Gone from None

    async def hear(self) -> dict:
        """Its next message; _Gone if it ends first, _NoThread if no thread can wait for it."""
        try:
            return json.loads(await asyncio.to_thread(self._pipe.recv_bytes, LONGEST_MESSAGE))
        except (EOFError, OSError):
            raise _Gone from None
        except RuntimeError:  # raised by `threading`
            raise _NoThread("no thread can be started") from None

    def kill(self) -> None:
        """End it at once, without waiting."""
        self._process.kill()

    async def end(self) -> None:
        """End it and wait until it is gone."""
        self._process.kill()
        try:
            await asyncio.to_thread(self._process.join)
        except RuntimeError:  # no thread can wait, but a killed process ends almost at once
            self._process.join()
        self._pipe.close()

    def epitaph(self) -> str:
        """How it ended, as the start of a sentence."""
        status = self._process.exitcode or 0
        cause = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"the worker process ended ({cause})"
