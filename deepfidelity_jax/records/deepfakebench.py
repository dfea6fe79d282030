"""Datasets as DeepfakeBench holds them: face crops in a tree of frames, listed in a JSON file.

Only what a file says of labels, compression and frames is taken over. Its splits are not: its
Celeb-DF training list holds the test videos, and its validation list is its test list.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images.formats import MediaError
from deepfidelity_jax.records.benchmark_video import frame_number


@dataclass(frozen=True)
class Listed:
    """A video in the JSON file.

    label: DeepfakeBench's, such as `FF-DF`. levels: the keys between label and video, such as
    split and compression. name: of the video. frames: paths with forward slashes, beginning with
    the folder that `anchors` named, in the order of their numbers.
    """

    label: str
    levels: tuple[str, ...]
    name: str
    frames: tuple[str, ...]


def read(path: Path, anchors: Sequence[str]) -> list[Listed]:
    """The videos of a DeepfakeBench JSON file, each once however many of its splits name it.

    Args:
      path: of the file.
      anchors: names of the dataset's own top folders; whatever stands before one in a path, on
        whichever machine, is dropped.

    Raises:
      InputError: it is missing, or not such a file.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        (labels,) = tree.values()
        found = {}
        for label, inside in labels.items():
            for levels, name, frames in _walk(inside):
                paths = [cut_before(frame, anchors) for frame in frames]
                paths.sort(key=frame_number)
                # The splits overlap: one video, whichever of them names it.
                key = label, levels[1:], name
                if len(paths) > len(found[key].frames if key in found else ()):
                    found[key] = Listed(label, levels, name, tuple(paths))
    except OSError as error:
        raise InputError(
            f"config.data.bench_json is {path}: {(error.strerror or str(error)).lower()}; name "
            "DeepfakeBench's JSON file of this dataset"
        ) from None
    except (ValueError, AttributeError, TypeError, KeyError, MediaError) as error:
        raise InputError(
            f"config.data.bench_json is {path}: not a DeepfakeBench list of videos and frames "
            f"({' '.join(str(error).split())}); name its JSON file of this dataset"
        ) from None
    if not found:
        raise InputError(f"config.data.bench_json is {path}: there is no video with frames in it")
    return list(found.values())


def _walk(inside: dict, levels: tuple[str, ...] = ()) -> Iterator[tuple[tuple, str, list]]:
    """Levels, name and frames of all videos below, at whatever depth."""
    for name, entry in inside.items():
        if "frames" in entry:
            yield levels, name, entry["frames"]
        else:
            yield from _walk(entry, (*levels, name))


def cut_before(path: str, anchors: Sequence[str]) -> str:
    """A path of either separator from the last of `anchors` in it on, with forward slashes."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    starts = [index for index, part in enumerate(parts) if part in anchors]
    if not starts or ".." in parts:
        raise ValueError(f"the path {path!r} goes through none of {', '.join(anchors)}")
    return "/".join(parts[starts[-1] :])
