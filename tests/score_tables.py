"""Tables of predictions made up for tests."""

import cv2
import numpy as np

from deepfidelity_jax.scoring.table import Predictions

EVIL = '<script>alert("x")</script>'  # in file names and video ids


def table(label, fidelity, video=None, method=None, quality=None, dataset="d"):
    n = len(label)
    video = [f"v{i}" for i in range(n)] if video is None else video
    default = ["original" if kind else "swap" for kind in label]
    return Predictions(
        path=[f"{v}/{i}.png" for i, v in enumerate(video)],
        dataset=[dataset] * n,
        split=["test"] * n,
        method=default if method is None else method,
        video_id=video,
        frame=list(range(n)),
        label=label,
        quality=np.arange(n) if quality is None else quality,
        fidelity_target=[0.5] * n,
        fidelity=fidelity,
        p_fake=1 - np.asarray(fidelity),
    )


def simulated(rng, videos=60, frames=4, shift=1.0):
    """Frames of one video share much of their score; fidelity follows quality a little."""
    label = np.repeat(np.arange(videos) % 2, frames)
    common = np.repeat(rng.normal(size=videos), frames)
    quality = rng.normal(size=videos * frames)
    fidelity = shift * label + common + 0.5 * quality + 0.5 * rng.normal(size=videos * frames)
    video = np.repeat([f"v{i}" for i in range(videos)], frames)
    kinds = np.where(label == 1, "original", np.repeat(["", "a", "", "b"] * (videos // 4), frames))
    return table(label, fidelity, video, kinds, quality)


def predictions(videos=24, frames=3, seed=0, label=None):
    rng = np.random.default_rng(seed)
    n = videos * frames
    kind = np.arange(videos) % 2 if label is None else np.full(videos, label)
    method = np.where(kind == 1, "original", np.where(np.arange(videos) % 4 == 0, "swap", "blend"))
    quality = rng.random(n)
    labels = np.repeat(kind, frames)
    fidelity = 0.2 + 0.3 * labels + 0.3 * quality + 0.1 * rng.normal(size=n)
    return Predictions(
        path=[f"{EVIL}/{i}.png" for i in range(n)],
        dataset=["faces"] * n,
        split=["test"] * n,
        method=np.repeat(method, frames),
        video_id=np.repeat([f"{EVIL}{i}" for i in range(videos)], frames),
        frame=list(range(n)),
        label=labels,
        quality=quality,
        fidelity_target=quality,
        fidelity=fidelity,
        p_fake=1 - fidelity,
    )


def pictures(rows):
    """A picture whose grey value is the number of its row."""
    faces = [np.full((8, 8, 3), row, np.uint8) for row in rows]
    return [cv2.imencode(".jpg", face)[1].tobytes() for face in faces]
