"""Tests a server with many clients at once: valid and damaged files, and malicious requests.

    python benchmarks/reliability/load.py [--clients=20] [--requests=500] [--faces=0.1] [--seed=0]

Starts `--mode=serve` with the bundled detector. First it gets a PNG bomb, a video that claims a
million frames, a path and HTML as file names, and more bytes than allowed, announced or not. Then
every client posts file after file and polls each until it has ended: photographs with and without a
face, damaged pictures and videos, and files that are neither. Prints the outcome of each kind, the
time to an answer, and the memory of the server and of its largest worker over time. Exits with
status 1 if a request is lost, an answer does not fit the schema, or a file is left behind.
"""

import argparse
import io
import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import cv2
import httpx
import numpy as np
import small_run
from damages import DAMAGES
from PIL import Image

from deepfidelity_datasets.synthetic_faces import renderer

MIB = 2**20
OUTSIDE = f"{os.pardir}/{os.pardir}/x.jpg"
ENDED = ("done", "failed", "cancelled")
PATIENCE_S = 900


def main():
    """Run both campaigns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--faces", type=float, default=0.1, help="share with a face, the slow ones")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, url = start(Path(folder))
        watch = Watch(process.pid)
        watch.start()
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
                faults = send_hostile(client)
            faults += send_many(url, options, watch)
        finally:
            watch.over.set()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        left = [path for path in Path(folder).rglob("*") if path.is_file()]
        print(f"ended with status {process.returncode}: {stderr.strip()}; files left: {len(left)}")
    watch.show()
    sys.exit(bool(faults or left or process.returncode))


def start(folder: Path) -> tuple[subprocess.Popen, str]:
    """A server on a free port, with its temporary files in `folder`; and its address."""
    argv = [sys.executable, str(small_run.TREE / "run.py"), "--mode=serve", "--port=0"]
    process = subprocess.Popen(
        ["env", f"TMPDIR={folder}", *argv], stderr=subprocess.PIPE, text=True
    )
    output = ""
    while not (address := re.search(r"http://\S+", output)):
        line = process.stderr.readline()
        if not line:
            raise SystemExit(f"the server did not start: {output}")
        output += line
    return process, address[0]


# ------------------------------------------------------------------ malicious files


def send_hostile(client: httpx.Client) -> int:
    """Post each file, print the outcome, and return how many outcomes are unexpected."""
    limit = client.get("/api/limits").json()["bytes"]
    faults = 0
    for name, file, expected in (
        ("a PNG of 60000x60000 pixels", ("bomb.png", png(60_000)), "unreadable"),
        ("a PNG of 13300x13300, 0.5 MB of black", ("black.png", png(13_300, True)), "no face"),
        ("a video that claims a million frames", ("million.avi", million_frames()), "no face"),
        (f"{OUTSIDE} as a name", (OUTSIDE, jpeg(0, False)), "no face"),
        ("HTML as a name", ("<img src=x onerror=alert(1)>.jpg", jpeg(1, False)), "no face"),
    ):
        began = time.monotonic()
        answer = client.post("/api/jobs", files={"file": file})
        job = follow(client, answer.json())
        line = job["prediction"] or {"status": job["error"]["type"], "note": ""}
        page = client.get(job["page"]).text if job["page"] else ""
        fine = line["status"] == expected and "<img src=x" not in page and "/" not in job["name"]
        faults += not fine
        print(
            f"{name}: {line['status']}, {line['note'] or 'no note'}; name {job['name']!r}; "
            f"{time.monotonic() - began:.1f} s{'' if fine else '  FAULT'}", flush=True
        )  # fmt: skip
        client.delete(f"/api/jobs/{job['id']}")
    began = time.monotonic()
    answer = announce(client.base_url, 10 * 2**30)
    faults += " 413 " not in answer.splitlines()[0]
    print(f"10 GiB announced: {answer.splitlines()[0]} after {time.monotonic() - began:.2f} s")
    sent = 0

    def body():
        nonlocal sent
        yield b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        while sent < 10 * 2**30:
            sent += MIB
            yield bytes(MIB)

    kind = {"Content-Type": "multipart/form-data; boundary=edge"}
    answer = client.post("/api/jobs", content=body(), headers=kind)
    faults += answer.status_code != 413
    print(
        f"10 GiB not announced: {answer.status_code} {answer.json()['error']['message']}; "
        f"{sent / MIB:.0f} MiB sent, of which {limit // MIB} are allowed", flush=True
    )  # fmt: skip
    return faults


def announce(url: httpx.URL, size: int) -> str:
    """The answer to a request that announces `size` bytes and sends none."""
    head = (
        f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(head.encode())
        return connection.recv(4096).decode()


def png(side: int, black: bool = False) -> bytes:
    """A PNG that says it is a square of this side; with all its rows, or with none."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side if black else 0))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def video(frames: int = 12) -> bytes:
    """A short AVI of a grey wall."""
    with tempfile.NamedTemporaryFile(suffix=".avi") as file:
        writer = cv2.VideoWriter(file.name, cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
        for _ in range(frames):
            writer.write(np.full((48, 64, 3), 120, np.uint8))
        writer.release()
        return Path(file.name).read_bytes()


def million_frames() -> bytes:
    """An AVI of twelve frames whose headers claim a million."""
    content = bytearray(video())
    for chunk, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        at = content.index(chunk) + offset
        content[at : at + 4] = (10**6).to_bytes(4, "little")
    return bytes(content)


# ------------------------------------------------------------------ many clients


def jpeg(seed: int, face: bool) -> bytes:
    """A photograph of a rendered person, or of a wall."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 140, (240, 320, 3), np.uint8)
    if face:
        (pose,) = renderer.sample_poses(rng, 1)
        who, where = renderer.sample_identity(rng), renderer.sample_scene(rng)
        pixels[20:220, 60:260] = renderer.render(who, where, pose, 200)[0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def draw_file(rng: random.Random, faces: float) -> tuple[str, str, bytes]:
    """Kind, name and content of the next file."""
    seed = rng.randrange(10**6)
    if rng.random() < faces:
        return "face", f"{seed}.jpg", jpeg(seed, True)
    kind = rng.choice(("wall", "video", "damaged picture", "damaged video", "no media"))
    if kind == "no media":
        return kind, f"{seed}.jpg", rng.randbytes(rng.choice((0, 100, 10_000)))
    name, content = (
        (f"{seed}.avi", video()) if "video" in kind else (f"{seed}.jpg", jpeg(seed, False))
    )
    return kind, name, rng.choice(DAMAGES)(content, rng) if "damaged" in kind else content


def send_many(url: str, options, watch: "Watch") -> int:
    """Send all requests from all clients at once; print the outcomes, return how many are lost."""
    rng = random.Random(options.seed)
    waiting = [draw_file(rng, options.faces) for _ in range(options.requests)]
    outcomes, times, lost, busy = Counter(), {}, [], Counter()

    def work():
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            while waiting:
                try:
                    kind, name, content = waiting.pop()
                except IndexError:
                    return
                began = time.monotonic()
                try:
                    outcome = ask(client, name, content, busy)
                except Exception as error:
                    lost.append(f"{kind} {name}: {error!r}")
                    continue
                outcomes[kind, outcome] += 1
                times.setdefault(kind, []).append(time.monotonic() - began)

    watch.mark("load")
    began = time.monotonic()
    clients = [threading.Thread(target=work) for _ in range(options.clients)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.monotonic() - began
    watch.mark("end")
    answered = sum(outcomes.values())
    print(
        f"{options.requests} requests of {options.clients} clients in {seconds:.0f} s: "
        f"{answered} answered, {len(lost)} lost; {busy['429']} times told to come again (429)"
    )
    for (kind, outcome), count in sorted(outcomes.items()):
        print(f"  {kind}: {count} {outcome}")
    for kind, taken in sorted(times.items()):
        taken.sort()
        p95 = taken[min(len(taken) - 1, int(0.95 * len(taken)))]
        print(
            f"  {kind}, seconds from the first byte to the end: median "
            f"{statistics.median(taken):.1f}, 95th percentile {p95:.1f}, longest {taken[-1]:.1f}"
        )
    print(*lost, sep="\n", end="\n" if lost else "", flush=True)
    return len(lost)


def ask(client: httpx.Client, name: str, content: bytes, busy: Counter) -> str:
    """Post a file until it is accepted or finally refused; returns the outcome in a few words."""
    while (answer := client.post("/api/jobs", files={"file": (name, content)})).status_code == 429:
        busy["429"] += 1
        time.sleep(float(answer.headers["retry-after"]))
    if answer.status_code != 202:
        return f"{answer.status_code} {answer.json()['error']['type']}"
    job = follow(client, answer.json())
    if job["page"]:
        assert "</html>" in client.get(job["page"]).text
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
    return job["error"]["type"] if job["error"] else job["prediction"]["status"]


def follow(client: httpx.Client, job: dict) -> dict:
    """Poll a job until it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while job["state"] not in ENDED:
        assert time.monotonic() < deadline, f"no end of {json.dumps(job)}"
        time.sleep(0.2)
        job = client.get(f"/api/jobs/{job['id']}").json()
    return job


class Watch(threading.Thread):
    """Resident memory of a process and of its largest child, every two seconds."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self._pid, self.over = pid, threading.Event()
        self._seen: list[tuple[float, int, int, int]] = []
        self._marks: dict[str, int] = {}

    def run(self):
        """Measure until `over` is set."""
        began = time.monotonic()
        while not self.over.wait(2):
            try:
                below = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
                sizes = [resident(int(pid)) for pid in below]
                seen = (time.monotonic() - began, resident(self._pid), max(sizes), len(sizes))
            except (OSError, ValueError):
                continue
            self._seen.append(seen)

    def mark(self, name: str) -> None:
        """Mark the present time with a name."""
        self._marks[name] = len(self._seen)

    def show(self) -> None:
        """Print ten moments of the load, and the peaks."""
        seen = self._seen[self._marks.get("load", 0) : self._marks.get("end")] or self._seen
        for at, server, worker, _ in seen[:: max(1, len(seen) // 10)]:
            print(f"  {at:5.0f} s: {describe(server, worker)}")
        peaks = (max(moment[i] for moment in self._seen) for i in (1, 2))
        print(f"  peak, hostile files included: {describe(*peaks)}")


def describe(server: int, worker: int) -> str:
    """Two sizes in words."""
    return f"server {server / MIB:.0f} MiB, largest worker {worker / MIB:.0f} MiB"


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
