"""Bind the port, own the temporary folder, run until Ctrl-C."""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import LOCK, lock
from deepfidelity_jax.progress import say
from deepfidelity_jax.server import app
from deepfidelity_jax.server.connections import Connection
from deepfidelity_jax.server.jobs import Jobs
from deepfidelity_jax.server.messages import Limits
from deepfidelity_jax.server.workers import Workers

PREFIX = "deepfidelity-serve-"  # of temporary folders
BACKLOG = 128
PATIENCE_S = 1  # how long answers in progress may take after Ctrl-C


def serve(workdir: str | None, host: str, port: int) -> None:
    """Serve the page and the API until SIGINT, SIGTERM or SIGHUP.

    Args:
      workdir: the workdir of the detector; None for the bundled one.
      host: name or address to listen at.
      port: 0 for any free port.

    Raises:
      InputError: the port is taken, the host is not this machine, or there is no such detector.
    """
    with _listen(host, port) as listener, _private_folder() as folder:
        say("loading the detector")
        asyncio.run(_run(listener, folder, workdir, host))
    say("the server has stopped; all uploaded files are deleted")


async def _run(listener: socket.socket, folder: Path, workdir: str | None, host: str) -> None:
    limits = Limits()
    jobs = Jobs(folder / "jobs", limits)
    config = uvicorn.Config(
        app.build(jobs, limits, host),
        http=Connection,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=PATIENCE_S,
    )
    async with Workers(jobs, workdir, folder / "cache", limits):
        say(f"open {_address(listener)} in a browser; press Ctrl-C to stop the server")
        # Uvicorn handles the signals, shuts down, and raises them again.
        with contextlib.suppress(KeyboardInterrupt):
            await uvicorn.Server(config).serve([listener])


@contextlib.contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except UnicodeError:  # raised for an empty part of a name, and for a long one
        raise InputError(f"--host={host}: not a valid host name") from None
    except OSError as error:
        raise InputError(f"--host={host}: {(error.strerror or str(error)).lower()}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)  # now, because two sockets may be bound until one listens
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if error.errno == errno.EADDRINUSE:
                reason = "another program listens there; choose another --port"
            raise InputError(f"--host={host} --port={port}: {reason}") from None
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A temporary folder that only this user can open, removed afterwards.

    Folders of killed servers are removed as well: their locks are free.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if old.is_symlink() or old.stat().st_uid != os.getuid():
                continue
            with open(old / LOCK, "rb") as file:
                if lock(file):
                    shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with open(folder / LOCK, "wb") as file:
            lock(file)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
