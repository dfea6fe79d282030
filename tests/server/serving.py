"""A server in a process of its own, what is given to it, and the processes below it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
from conftest import OWN_CORE, TREE, running_on

PATIENCE = 100  # seconds
# The command with other limits, for which it has no flags.
LIMITED = """
import functools, sys
from deepfidelity_jax import cli
from deepfidelity_jax.server import serve

serve.Limits = functools.partial(serve.Limits, **{limits})
sys.exit(cli.main())
"""


class Server:
    """`--mode=serve` on a free port and one core, so with one worker; the bundled detector.

    temporary: where its temporary files are. url: of its page. limits: other than the usual ones.
    """

    def __init__(self, temporary, **limits):
        self.temporary = temporary
        temporary.mkdir(exist_ok=True)
        program = ["-c", LIMITED.format(limits=limits)] if limits else [str(TREE / "run.py")]
        argv = [sys.executable, *program, "--mode=serve", "--port=0"]
        with running_on({OWN_CORE}):
            self.process = subprocess.Popen(
                argv, env=os.environ | {"TMPDIR": str(temporary)}, stderr=subprocess.PIPE, text=True
            )
        self.said = []
        while not (found := re.search(r"http://\S+", self.said[-1] if self.said else "")):
            line = self.process.stderr.readline()
            assert line, f"ended with {self.process.wait()}: {''.join(self.said)}"
            self.said.append(line)
        self.url = found[0]
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def post(self, name, content):
        """The answer to a posted file."""
        return self.client.post("/api/jobs", files={"file": (name, content)})

    def wait(self, answer, *states):
        """The job of an answer, as soon as it has one of these states; by default, has ended."""
        assert answer.status_code == 202, answer.text
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            job = self.client.get(answer.headers["location"]).json()
            if job["state"] in (states or ("done", "failed", "cancelled")):
                return job
            time.sleep(0.05)
        raise AssertionError(job)

    def files(self):
        """The files it was given or made that are still there."""
        (folder,) = self.temporary.glob("deepfidelity-serve-*")
        walk = os.walk(folder / "jobs")  # which passes over folders that go meanwhile
        return [Path(place, name) for place, _, names in walk for name in names]

    def workers(self):
        """The processes that score: those that have loaded the detector, or are about to."""
        return [pid for pid in children(self.process.pid) if "spawn_main" in command(pid)]

    def end(self, number):
        """Send a signal: exit status, and what it said after it had begun."""
        self.client.close()
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


def children(pid):
    """The processes that a process has started."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid):
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
