"""Queued and running jobs, and ended jobs, which are kept for a while. Only one thread runs this.

Jobs cannot be listed: a client can only reach its own jobs, because only it knows their ids.
"""

import asyncio
import contextlib
import secrets
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from deepfidelity_jax.processes.faults import disk_error
from deepfidelity_jax.server.messages import Error, ErrorType, JobView, Limits, State
from deepfidelity_jax.server.refusal import Refused

HEARTBEAT_S = 15  # how often a stream without news is written to, to notice a client that has left
RETRY_S = 5


class Job:
    """One file on its way to a verdict.

    Attributes:
      id: a secret.
      path: the uploaded file, in its own folder; removed once the job has ended.
      page: where the worker leaves the page about it.
    """

    def __init__(self, id: str, folder: Path, path: Path):
        self.id, self.path, self.page = id, path, folder / "page.html"
        self._folder = folder
        self._bytes = path.stat().st_size
        self.state: State = "queued"
        self._position: int | None = None
        self._step, self._share = None, 0.0
        self._prediction: dict | None = None
        self._error: Error | None = None
        self._stop: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the job has reached its final state."""
        return self.state in ("done", "failed", "cancelled")

    def view(self) -> dict:
        """The job as a JobView."""
        page = self.state == "done" and self.page.is_file()
        view = JobView.model_construct(
            id=self.id,
            name=self.path.name,
            bytes=self._bytes,
            state=self.state,
            position=self._position if self.state == "queued" else None,
            step=self._step if self.state == "running" else None,
            share=self._share if self.state == "running" else None,
            page=f"/api/jobs/{self.id}/page" if page else None,
            error=self._error,
        )
        return view.model_dump() | {"prediction": self._prediction}

    async def changes(self) -> AsyncIterator[dict | None]:
        """Yield a view now and at each change until the job has ended; None as a heartbeat."""
        while True:
            changed = self._changed
            yield self.view()
            if self.ended:
                return
            while not changed.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield None

    def queue(self, position: int) -> None:
        """Set its place in the queue."""
        self._position = position
        self._tell()

    def begin(self, stop: Callable[[], None]) -> None:
        """Mark it as taken by a worker; `stop` ends that worker."""
        self.state, self._stop = "running", stop
        self._tell()

    def hear(self, message: dict) -> None:
        """Take a message from its worker: the progress, the verdict, or why there is none."""
        if "step" in message:
            self._step, self._share = message["step"], min(max(message["share"], 0.0), 1.0)
            self._tell()
        elif "error" in message:
            self._end("failed", error=Error(**message["error"]))
        else:
            self._end("done", prediction=message["prediction"])

    def fail(self, type: ErrorType, message: str, limit: int | None = None) -> None:
        """End the job with an error, unless it has already ended; its worker is ended."""
        self._end("failed", error=Error(type=type, message=message, limit=limit))
        self._stop()

    def cancel(self) -> None:
        """Cancel it for the client; its worker is ended."""
        self._end("cancelled")
        self._stop()

    def drop_file(self) -> None:
        """Remove the uploaded file. Call once no worker reads it."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        if self.state != "done":
            self.drop_all()

    def drop_all(self) -> None:
        """Remove the uploaded file and the page."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, state: State, prediction: dict | None = None, error: Error | None = None):
        if self.ended:
            return
        self.state, self._prediction, self._error = state, prediction, error
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Jobs:
    """All jobs of a server.

    Args:
      folder: holds the files of the jobs; each job has its own folder in it.

    Attributes:
      broken: why no job can be taken at present; empty if jobs are taken.
    """

    def __init__(self, folder: Path, limits: Limits):
        self._folder, self._limits = folder, limits
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._arriving = 0
        self.broken = ""

    @contextlib.contextmanager
    def arriving(self) -> Iterator[tuple[str, Path]]:
        """The id of a new job, and a folder for its file, which is removed unless `add` follows.

        Raises Refused if there are too many jobs, or the disk becomes full.
        """
        if self.broken:
            raise Refused(503, "no_worker", self.broken, retry_after=RETRY_S, unread=True)
        most = self._limits.jobs
        if self._arriving + sum(not job.ended for job in self._jobs.values()) >= most:
            message = f"the server already has {most} jobs: try again soon"
            raise Refused(429, "too_many_jobs", message, most, RETRY_S, unread=True)
        self._arriving += 1
        id = secrets.token_hex(16)
        folder = self._folder / id
        try:
            (folder / "upload").mkdir(parents=True)
            yield id, folder / "upload"
        except OSError as error:
            if reason := disk_error(error):
                message = f"the server cannot keep the file: {reason.split(':')[0]}"
                raise Refused(503, "disk_full", message, retry_after=60, unread=True) from None
            raise
        finally:
            self._arriving -= 1
            if id not in self._jobs:
                shutil.rmtree(folder, ignore_errors=True)

    def add(self, id: str, path: Path) -> Job:
        """Queue the file that has arrived."""
        job = self._jobs[id] = Job(id, self._folder / id, path)
        self._waiting.append(job)
        job.queue(len(self._waiting))
        self._arrived.set()
        ended = [job for job in self._jobs.values() if job.ended]
        for old in ended[: max(0, len(ended) - self._limits.kept_jobs)]:
            self._forget(old)
        return job

    def find(self, id: str) -> Job:
        """The job with this id; Refused if there is none."""
        if id not in self._jobs:
            message = "there is no such job: it was removed, or it has expired"
            raise Refused(404, "no_such_job", message)
        return self._jobs[id]

    async def take(self) -> Job:
        """Wait for the next job."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        job = self._waiting.popleft()
        self._renumber()
        return job

    def put_back(self, job: Job) -> None:
        """Queue a job again, ahead of all others."""
        self._waiting.appendleft(job)
        self._renumber()
        self._arrived.set()

    def remove(self, job: Job) -> None:
        """Cancel a job that has not ended, or forget an ended one."""
        if job.ended:
            return self._forget(job)
        waiting = job in self._waiting
        job.cancel()
        if waiting:
            self._waiting.remove(job)
            self._renumber()
            self.end(job)
        # Otherwise cancelling ends its worker, which calls `end` once it is gone.

    def end(self, job: Job) -> None:
        """Clean up after a job that has ended, and keep its result for a while."""
        job.drop_file()
        asyncio.get_running_loop().call_later(self._limits.kept_seconds, self._forget, job)

    def _forget(self, job: Job) -> None:
        job.drop_all()
        self._jobs.pop(job.id, None)

    def _renumber(self) -> None:
        for position, job in enumerate(self._waiting, start=1):
            job.queue(position)
