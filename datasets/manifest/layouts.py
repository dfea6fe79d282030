"""Other projects' layouts as rows of a table. Nothing that a layout does not state is guessed."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepfidelity_datasets.face_folder.labels import SPLIT_FOLDERS
from deepfidelity_datasets.face_folder.sources import escaped
from deepfidelity_datasets.face_folder.splits import find_frames
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images import formats, media
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.table import normal
from deepfidelity_jax.records import deepfakebench
from deepfidelity_jax.records.schema import FAKE, REAL
from deepfidelity_jax.records.source import count_reasons, describe

# DeepfakeBench's labels without the word real or fake in them.
BENCH_FAKES = ("FF-DF", "FF-F2F", "FF-FS", "FF-NT", "FF-FH", "FF-SH")


@dataclass(frozen=True)
class Entry:
    """A row of the table to be written. The fields are its columns, empty if not known."""

    path: Path
    label: int
    method: str = ""
    video_id: str = ""
    person: str = ""
    split: str = ""


@dataclass(frozen=True)
class Stated:
    """What the user says about a layout.

    labels: the labels of names, such as `{"original": 1}`. folder: the folder that a list's paths
    are relative to. video: `folder` if pictures in one folder are frames of a video, `none` if not.
    compression: the compression to use if there are several.
    """

    labels: Mapping[str, int]
    folder: Path | None = None
    video: str = ""
    compression: str = ""

    def label_of(self, name: str) -> int | None:
        """The label of a name: as stated, or by the word real or fake in it."""
        if name in self.labels:
            return self.labels[name]
        words = set(re.split(r"[\W\d_]+", name.casefold()))
        suggested = {label for label, word in ((REAL, "real"), (FAKE, "fake")) if word in words}
        return suggested.pop() if len(suggested) == 1 else None


def read_classes(source: Path, stated: Stated) -> list[Entry]:
    """Folders named after the classes, such as `real`, `0_real`, `FAKE`, at any depth.

    A folder inside the folder of the fakes names the method, unless it is a video; `train`, `val`
    and `test` around or inside the classes, also at any depth, are the splits. A file that cannot
    be read gets a row like the others of its class, and preparation says why it is left out.
    """
    if not source.is_dir():
        raise InputError(f"{source} is not a folder: give the one with the class folders inside")
    files = _list_media(source, stated)
    placed = {path: _place(source, path.relative_to(source).parts[:-1], stated) for path in files}
    # One such name inside a class may be an album's; two are splits.
    splits_inside = len({split for _, _, rest in placed.values() for split in _splits(rest)}) > 1
    entries = []
    for path, (label, top, rest) in placed.items():
        splits = _splits(top[:-1])
        if splits_inside:
            splits |= _splits(rest)
            rest = [name for name in rest if not _splits([name])]
        if len(splits) > 1:
            raise InputError(f"{path} is in folders of two splits, {' and '.join(sorted(splits))}")
        video = ""
        if rest and stated.video == "folder" and files[path] == "image":
            video = path.parent.relative_to(source).as_posix()
            rest = rest[:-1]
        method = rest[0] if rest and label == FAKE else ""
        entries.append(Entry(path, label, method, video, split="".join(splits)))
    pictures = [path for path, kind in files.items() if kind == "image"]
    tops = {source, *(source.joinpath(*top) for _, top, _ in placed.values())}
    tops |= {path.parent for path in pictures if _splits([path.parent.name])}
    frames = find_frames(pictures, tops)
    if len(frames) > 1 and not stated.video:
        raise InputError(
            f"{frames[0]} and {len(frames) - 1} more folders hold numbered pictures that look like "
            "frames of videos: say --video=folder if each folder is a video, or --video=none"
        )
    return entries


def _list_media(source: Path, stated: Stated) -> dict[Path, str]:
    """The kind of each photograph and video, by its name if it cannot be read; tells the others."""
    listing = media.list_files(source)
    files, left_out = {}, dict(listing.left_out)
    for path in listing.files:
        try:
            files[path] = media.identify(path)
        except formats.MediaError as error:
            folders = path.relative_to(source).parts[:-1]
            of_class = any(stated.label_of(name) is not None for name in folders)
            if isinstance(error, formats.NotMedia) or not of_class:
                left_out[path] = str(error)
            else:
                is_video = path.suffix.lower() in formats.VIDEO_SUFFIXES
                files[path] = "video" if is_video else "image"
    if left_out:
        notes = {
            escaped(path.relative_to(source).as_posix()): note for path, note in left_out.items()
        }
        say(f"not in the table: {count_reasons(notes)}\n{describe(notes)}")
    return files


def _place(source: Path, folders: Sequence[str], stated: Stated) -> tuple:
    """The label, the folders down to the class folder, and the folders inside it."""
    labelled = [(index, stated.label_of(name)) for index, name in enumerate(folders)]
    labelled = [(index, label) for index, label in labelled if label is not None]
    shown = "/".join(folders) or "itself"
    if not labelled:
        raise InputError(
            f"{source} holds pictures or videos in {shown}, which no name puts into a class, and "
            "labels are never guessed: name the class folders with --real=NAME and --fake=NAME"
        )
    index, label = labelled[0]
    if any(other != label for _, other in labelled):
        raise InputError(f"{source}: {shown} names both classes: rename it")
    return label, folders[: index + 1], folders[index + 1 :]


def _splits(names: Sequence[str]) -> set[str]:
    """The splits that folders are named after."""
    return {SPLIT_FOLDERS[name.casefold()] for name in names if name.casefold() in SPLIT_FOLDERS}


def read_deepfakebench(source: Path, stated: Stated) -> list[Entry]:
    """DeepfakeBench's JSON file of a dataset; its frames are ready crops.

    The label names the class and the method.
    """
    folder = stated.folder or source.parent
    listed = deepfakebench.read_splits(source, "the list", _placed)
    if not any(video.frames for video in listed):
        raise InputError(f"{source} lists no video with frames")
    forms = sorted({"/".join(video.levels[1:]) for video in listed})
    if stated.compression:
        listed = [video for video in listed if stated.compression in video.levels[1:]]
    if len({video.levels[1:] for video in listed}) != 1:
        raise InputError(
            f"{source} lists the compressions {', '.join(map(repr, forms))}, which are the same "
            "videos: choose one with --compression=NAME"
        )
    entries = []
    for video in listed:
        label = FAKE if video.label in BENCH_FAKES else stated.label_of(video.label)
        if label is None:
            label = _word(video.label)
        if label is None:
            raise InputError(
                f"{source} has the label {video.label!r}, and labels are never guessed: say "
                f"--real={video.label} or --fake={video.label}"
            )
        split = _split(source, video.levels[0] if video.levels else "")
        method = video.label if label == FAKE else ""
        name = "/".join((video.label, *video.levels[1:], video.name))
        for frame in video.frames:
            entries.append(Entry(folder / frame, label, method, name, split=split))
    return entries


def _placed(frame: str) -> str:
    """The path of a frame with forward slashes, absolute if it was."""
    return "/" * frame.startswith("/") + normal(frame)


def _word(name: str) -> int | None:
    """The class in a name like DFDCP_FakeA."""
    suggested = {REAL: "real" in name.casefold(), FAKE: "fake" in name.casefold()}
    return next(
        (label for label, present in suggested.items() if present and not suggested[1 - label]),
        None,
    )


def read_dfdc(source: Path, stated: Stated) -> list[Entry]:
    """The DFDC: videos beside a metadata.json, in one folder or in many.

    A fake and the video it was made from get the same person. All files have the split `train`,
    which is therefore left out.
    """
    lists = [source] if source.is_file() else sorted(source.rglob("metadata.json"))
    if not lists:
        raise InputError(f"{source} has no metadata.json at any depth")
    entries = []
    for path in lists:
        listed = _read_json(path)
        if not isinstance(listed, dict):
            raise InputError(f"{path} is not the DFDC's: it must be an object of videos")
        for name, details in listed.items():
            text = str(details.get("label", "")) if isinstance(details, dict) else ""
            label = {"real": REAL, "fake": FAKE}.get(text.casefold())
            if label is None:
                raise InputError(f"{path}: {name} has no label REAL or FAKE")
            person = Path(str(details.get("original") or name)).stem
            split = _split(path, str(details.get("split", "")))
            entries.append(Entry(path.parent / name, label, person=person, split=split))
    if {entry.split for entry in entries} == {"train"}:
        return [Entry(entry.path, entry.label, person=entry.person) for entry in entries]
    return entries


def read_gend(source: Path, stated: Stated) -> list[Entry]:
    """GenD's lists: text files of paths that end in `KIND/VIDEO/FRAME`, one split each.

    As in GenD, a kind with `real` in its name is real and every other is fake. The name of a list
    or of its folder gives the split.
    """
    lists = [source] if source.is_file() else sorted(source.rglob("*.txt"))
    if not lists:
        raise InputError(f"{source} has no list, a text file of paths, at any depth")
    entries = []
    for path in lists:
        for number, line in enumerate(_read_text(path).splitlines(), 1):
            frame_path = line.strip().replace("\\", "/")
            if not frame_path:
                continue
            parts = frame_path.split("/")
            if len(parts) < 3 or ".." in parts:
                raise InputError(
                    f"{path}, line {number}: {frame_path[:80]!r} is not KIND/VIDEO/FRAME"
                )
            kind = parts[-3]
            label = stated.labels.get(kind, REAL if "real" in kind else FAKE)
            bases = [stated.folder or Path.cwd(), path.parent]
            tried = [base / frame_path for base in bases]
            file = next((candidate for candidate in tried if candidate.exists()), tried[0])
            video = "/".join(parts[-4:-1])
            entries.append(
                Entry(file, label, kind if label == FAKE else "", video, split=_split_named(path))
            )
    return entries


def read_forensichub(source: Path, stated: Stated) -> list[Entry]:
    """ForensicHub's lists: JSON arrays of `{"path", "label", "mask"}`, 0 real and 1 fake.

    The name of a list gives the split, such as `train.json`.
    """
    lists = [source] if source.is_file() else sorted(source.rglob("*.json"))
    if not lists:
        raise InputError(f"{source} has no list, a JSON file, at any depth")
    entries = []
    for path in lists:
        listed = _read_json(path)
        if not isinstance(listed, list):
            raise InputError(f"{path} is not ForensicHub's: it must be an array of files")
        for number, details in enumerate(listed, 1):
            label = details.get("label") if isinstance(details, dict) else None
            if label not in (0, 1) or isinstance(label, bool) or not details.get("path"):
                raise InputError(
                    f'{path}, entry {number}: not {{"path": ..., "label": 0 or 1}}; a list of '
                    "pictures and masks alone has no labels"
                )
            file_path = str(details["path"]).replace("\\", "/")
            entries.append(
                Entry(
                    (stated.folder or path.parent) / file_path,
                    FAKE if label == 1 else REAL,
                    split=_split_named(path),
                )
            )
    return entries


def _split(where: Path, name: str) -> str:
    if name and name.casefold() not in SPLIT_FOLDERS:
        raise InputError(f"{where} has the split {name!r}: not one of {', '.join(SPLIT_FOLDERS)}")
    return SPLIT_FOLDERS[name.casefold()] if name else ""


def _split_named(path: Path) -> str:
    """The split given by a list's name, or by the name of its folder; empty if neither does."""
    for name in (path.stem, path.parent.name):
        splits = {SPLIT_FOLDERS.get(word, "") for word in re.split(r"[\W_]+", name.casefold())}
        if len(splits - {""}) == 1:
            return (splits - {""}).pop()
    return ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "not UTF-8 text"
        raise InputError(f"{path} cannot be read: {reason.lower()}") from None


def _read_json(path: Path) -> object:
    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


LAYOUTS = {
    "classes": read_classes,
    "deepfakebench": read_deepfakebench,
    "dfdc": read_dfdc,
    "gend": read_gend,
    "forensichub": read_forensichub,
}
