"""Requests to the application in this process. It has no workers: what is posted stays queued."""

import asyncio

import httpx
import numpy as np

from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.server import app
from deepfidelity_jax.server.jobs import Jobs
from deepfidelity_jax.server.messages import Limits

PICTURE = encode_image(np.full((40, 64, 3), 120, np.uint8))
LIMITS = Limits(bytes=200_000, jobs=3, kept_jobs=2, upload_seconds=1)


def ask(folder, *requests):
    """The answers to requests one after the other, each as a dict or a function of the first."""

    async def run():
        built = app.build(Jobs(folder, LIMITS), LIMITS, "127.0.0.1")
        transport = httpx.ASGITransport(built)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = []
            for request in requests:
                now = request(answers[0]) if callable(request) else request
                answers.append(await client.request(**now))
            return answers

    return asyncio.run(run())


def form(*parts, end=b"--edge--\r\n"):
    """A request with a form of (disposition, content) parts."""
    body = b"".join(
        b"--edge\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % part for part in parts
    )
    kind = {"Content-Type": "multipart/form-data; boundary=edge"}
    return {"method": "POST", "url": "/api/jobs", "content": body + end, "headers": kind}
