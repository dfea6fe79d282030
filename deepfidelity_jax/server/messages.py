"""The schema of what the API sends: limits, jobs and errors."""

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deepfidelity_jax.detector.predict import Prediction
from deepfidelity_jax.images.pictures import MAX_PIXELS
from deepfidelity_jax.processes.machine import count_cores

MIB = 2**20

State = Literal["queued", "running", "done", "failed", "cancelled"]
ErrorType = Literal[
    # of a request
    "wrong_host", "foreign_page", "not_found", "wrong_method", "wrong_request", "no_such_job",
    "no_page", "not_multipart", "bad_form", "not_media", "too_large", "upload_too_slow",
    "upload_cut_off", "too_many_jobs", "too_many_connections", "disk_full", "no_worker", "internal",
    # of a job
    "too_long", "too_slow", "too_much_memory", "crashed",
]  # fmt: skip


def count_workers() -> int:
    """Number of workers: two, so that a long video does not block all jobs; more on large hosts."""
    cores = count_cores()
    return min(cores, max(2, cores // 4), 8)


def share_memory() -> int:
    """Memory per file: enough for the largest photograph, within half of the machine's memory."""
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(3072 * MIB, here // 2 // count_workers())


class Limits(BaseModel):
    """What the server accepts. An error caused by a limit names the limit."""

    model_config = ConfigDict(frozen=True)

    bytes: int = Field(default=256 * MIB, description="size of a file")
    pixels: int = Field(default=MAX_PIXELS, description="pixels of a photograph or a frame")
    video_seconds: int = Field(default=600, description="length of a video")
    upload_seconds: int = Field(default=300, description="time an upload may take")
    job_seconds: int = Field(default=180, description="time limit in a worker")
    memory_bytes: int = Field(
        default_factory=share_memory, description="memory a file may take in its worker"
    )
    jobs: int = Field(default=32, description="jobs that are uploaded, queued or running at a time")
    kept_jobs: int = Field(
        default=256, description="ended jobs that are kept; older ones are removed"
    )
    kept_seconds: int = Field(
        default=600, description="time until an ended job and its page are removed"
    )
    connections: int = Field(default=256, description="requests answered at a time")
    workers: int = Field(
        default_factory=count_workers, description="processes that score, one file at a time each"
    )


class Error(BaseModel):
    """Why a request or a job failed."""

    type: ErrorType
    message: str = Field(description="one sentence for the user")
    limit: int | None = Field(
        default=None, description="the limit that was exceeded, as in /api/limits"
    )


class Problem(BaseModel):
    """The body of every answer with a status of 400 or more."""

    error: Error


class JobView(BaseModel):
    """A job as a client sees it. Fields that do not apply to its state are null."""

    id: str = Field(description="a secret: whoever knows it can read and remove the job")
    name: str = Field(description="name of the uploaded file, without folders")
    bytes: int = Field(description="size of the uploaded file")
    state: State
    position: int | None = Field(default=None, description="queued: place in the queue, from 1")
    step: str | None = Field(default=None, description="running: what is being done")
    share: float | None = Field(
        default=None, description="running: how much of the step is done, from 0 to 1"
    )
    prediction: Prediction | None = Field(
        default=None,
        description="done: the line that --mode=predict prints, with the name as input",
    )
    page: str | None = Field(default=None, description="done: path of the page about it")
    error: Error | None = Field(default=None, description="failed: why")
