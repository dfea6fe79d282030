"""Datasets in DeepfakeBench's format: folders of face crops, listed in a JSON file.

Labels, compression and frames are taken from that file, but not its splits: its training list of
Celeb-DF contains the test videos, and its validation lists are its test lists.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images.formats import MediaError
from deepfidelity_jax.records.benchmark_video import frame_number


@dataclass(frozen=True)
class Listed:
    """A video in the JSON file.

    label: DeepfakeBench's, such as `FF-DF`. levels: the keys between label and video, such as
    split and compression. name: of the video. frames: paths with forward slashes, relative to the
    dataset's folder, ordered by frame number.
    """

    label: str
    levels: tuple[str, ...]
    name: str
    frames: tuple[str, ...]


def read(path: Path, anchors: Sequence[str]) -> list[Listed]:
    """The videos in a DeepfakeBench JSON file, each once even if several splits list it.

    Args:
      path: the JSON file.
      anchors: the dataset's top folders. A path is cut before one of these, as the part before it
        belongs to the machine that wrote the list.

    Raises:
      InputError: the file is missing or is not a DeepfakeBench list.
    """
    videos: dict[tuple, Listed] = {}
    for video in read_splits(
        path, "config.data.bench_json", lambda frame: cut_before(frame, anchors)
    ):
        # The splits overlap: keep one entry per video, the one with most frames.
        key = video.label, video.levels[1:], video.name
        if len(video.frames) > len(videos[key].frames if key in videos else ()):
            videos[key] = video
    if not videos:
        raise InputError(f"config.data.bench_json is {path}: it lists no video with frames")
    return list(videos.values())


def keep_present(
    listed: Mapping[str, Mapping[str, tuple[str, ...]]], root: Path
) -> dict[str, dict[str, tuple[str, ...]]]:
    """The videos, by folder and name, whose first frame has its folder in the copy at `root`."""
    return {
        folder: {
            name: frames for name, frames in videos.items() if (root / frames[0]).parent.is_dir()
        }
        for folder, videos in listed.items()
    }


def read_splits(path: Path, option: str, placed: Callable[[str], str]) -> list[Listed]:
    """The videos in a DeepfakeBench JSON file, once for each split that lists it.

    Args:
      path: the JSON file.
      option: the option that gave the path, for messages.
      placed: turns a frame's path into a path inside the dataset; ValueError if it cannot.

    Raises:
      InputError: as for `read`.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
        (labels,) = tree.values()
        videos = []
        for label, inside in labels.items():
            for levels, name, frames in _walk(inside):
                paths = sorted((placed(frame) for frame in frames), key=frame_number)
                videos.append(Listed(label, levels, name, tuple(paths)))
    except OSError as error:
        raise InputError(
            f"{option} is {path}: {(error.strerror or str(error)).lower()}; give DeepfakeBench's "
            "JSON file for this dataset"
        ) from None
    except (
        ValueError, AttributeError, TypeError, KeyError, MediaError, RecursionError
    ) as error:  # fmt: skip
        raise InputError(
            f"{option} is {path}: not a DeepfakeBench list of videos and frames "
            f"({' '.join(str(error).split())}); give its JSON file for this dataset"
        ) from None
    return videos


def _walk(inside: dict, levels: tuple[str, ...] = ()) -> Iterator[tuple[tuple, str, list]]:
    """Levels, name and frames of all videos, at any depth."""
    for name, entry in inside.items():
        if "frames" in entry:
            yield levels, name, entry["frames"]
        else:
            yield from _walk(entry, (*levels, name))


def cut_before(path: str, anchors: Sequence[str]) -> str:
    """The path from the last of `anchors` in it, with forward slashes; `path` may have either."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    starts = [index for index, part in enumerate(parts) if part in anchors]
    if not starts or ".." in parts:
        raise ValueError(f"the path {path!r} goes through none of {', '.join(anchors)}")
    return "/".join(parts[starts[-1] :])
