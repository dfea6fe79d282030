"""The videos in a copy of FaceForensics++, each in its official split."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from deepfidelity_datasets.ffpp.splits import PAIRS
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records import deepfakebench
from deepfidelity_jax.records.benchmark_builder import Holding, find_root, name_some
from deepfidelity_jax.records.benchmark_video import Video, list_folder, size_of
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL

CLASSIC = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
DFD = "DeepFakeDetection"  # by Google and Jigsaw: fakes of actors, with their own real videos
METHODS = (*CLASSIC, "FaceShifter", DFD)
COMPRESSIONS = ("raw", "c23", "c40")
TOP = ("original_sequences", "manipulated_sequences")
YOUTUBE, ACTORS = "original_sequences/youtube", "original_sequences/actors"
DFD_FOLDER = f"manipulated_sequences/{DFD}"
DFD_COUNTS = {ACTORS: 363, DFD_FOLDER: 3068}

# DeepfakeBench's names of the folders.
LABELS = {
    "FF-real": YOUTUBE,
    "FF-DF": "manipulated_sequences/Deepfakes",
    "FF-F2F": "manipulated_sequences/Face2Face",
    "FF-FS": "manipulated_sequences/FaceSwap",
    "FF-NT": "manipulated_sequences/NeuralTextures",
    "FF-FH": "manipulated_sequences/FaceShifter",
    "DFD_real": ACTORS,
    "DFD_fake": DFD_FOLDER,
}

# The videos in a folder of the dataset: name -> frames, none for a video file.
Held = dict[str, tuple[str, ...]]


def list_videos(
    manual_dir: Path, compression: str, methods: Sequence[str], bench_json: str = ""
) -> Holding:
    """List the real videos and the fakes of `methods`.

    Args:
      manual_dir: the copy as distributed; with `bench_json`, the root of DeepfakeBench's frames.
      compression: one of COMPRESSIONS.
      methods: one or more of METHODS.
      bench_json: DeepfakeBench's list of frames, if the copy has those instead of videos.
    """
    folders = [YOUTUBE] if set(methods) - {DFD} else []
    folders += [ACTORS] if DFD in methods else []
    folders += [f"manipulated_sequences/{method}" for method in methods]
    if bench_json:
        # Paths in the list begin with the dataset's name, so users may give either folder.
        inside = manual_dir / "FaceForensics++"
        root = find_root(inside if inside.is_dir() else manual_dir, TOP, "ffpp")
        listed = read_listed(Path(bench_json).expanduser(), compression, folders)
        held, notes = deepfakebench.keep_present(listed, root), {}
        form, suffix = "frames", ""
    else:
        root = find_root(manual_dir, TOP, "ffpp")
        held, notes = {}, {}
        for folder in folders:
            held[folder], others = read_folder(root, folder, compression)
            notes |= others
        form, suffix = "videos", ".mp4"

    def placed(folder, name):
        return f"{folder}/{compression}/{form}/{name}{suffix}"

    videos, missing = [], []
    unlisted = {(folder, name) for folder, names in held.items() for name in names}
    for folder, name, split, origins in list_official(methods, held):
        file = placed(folder, name)
        unlisted.discard((folder, name))
        if name not in held[folder]:
            missing.append((file, (split,)))
            continue
        kind = folder.split("/")[1]
        real = folder in (YOUTUBE, ACTORS)
        frames = held[folder][name]
        video = Video(
            name=file,
            path=str(root if frames else root / file),
            label=REAL if real else FAKE,
            method=ORIGINAL if real else kind,
            video_id=f"{kind}/{name}",
            split=split,
            origins=origins,
            frames=frames,
            size=0 if frames else size_of(root / file),
        )
        videos.append(video)
    notes |= {placed(*pair): "not in the official list" for pair in sorted(unlisted)}
    for folder in held.keys() & DFD_COUNTS:
        lacking = DFD_COUNTS[folder] - len(held[folder])
        parent = f"{folder}/{compression}/{form}"
        missing += [(f"{parent} (one of them)", ("test",))] * lacking
    return Holding(videos, missing, notes)


def list_official(
    methods: Sequence[str], held: dict[str, Held]
) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Folder, name, split and origins of every video there should be.

    For FaceForensics++ these come from the authors' lists alone. DeepFakeDetection has no lists:
    its videos are those in the copy. All of them are for testing, as splitting its few actors would
    leave few of its pairs.
    """
    of_pairs = [method for method in methods if method != DFD]
    for split, pairs in PAIRS.items():
        for a, b in pairs if of_pairs else ():
            for target, source in ((a, b), (b, a)):
                yield YOUTUBE, target, split, (f"video/{target}",)
                for method in of_pairs:
                    origins = (f"video/{target}", f"video/{source}")
                    yield f"manipulated_sequences/{method}", f"{target}_{source}", split, origins
    for folder in (ACTORS, DFD_FOLDER):
        for name in sorted(held.get(folder, ())):
            # <target actor>_<source actor>__<scene>__<8 characters>, and <actor>__<scene>
            actors = re.match(r"(\d+)_?(\d+)?__", name)
            people = actors.groups() if actors else ()
            yield folder, name, "test", tuple(f"actor/{actor}" for actor in people if actor)


def read_folder(root: Path, folder: str, compression: str) -> tuple[Held, dict[str, str]]:
    """The videos in a folder, and for each other file the reason it is left out.

    InputError if the folder does not exist in this compression.
    """
    directory = root / folder / compression / "videos"
    if directory.is_dir():
        names, left_out = list_folder(root, f"{folder}/{compression}/videos", (".mp4",))
        return {Path(name).stem: () for name in names}, left_out
    others = [name for name in COMPRESSIONS if (root / folder / name / "videos").is_dir()]
    _refuse(directory, compression, others, folder, name_some(root / folder))


def read_listed(path: Path, compression: str, folders: Sequence[str]) -> dict[str, Held]:
    """The listed frames of the videos in `folders`; InputError if a folder has none."""
    held = {folder: {} for folder in folders}
    others = {folder: set() for folder in folders}
    for video in deepfakebench.read(path, TOP):
        folder = LABELS.get(video.label)
        if folder not in held:
            continue
        # DeepFakeDetection's list has no level for compression, so it is read from the path.
        level = video.frames[0].split("/")[2]
        if level == compression:
            held[folder][video.name] = video.frames
        others[folder].add(level)
    for folder, videos in held.items():
        if not videos:
            listed = f"{len(others[folder])} compressions of it"
            _refuse(path, compression, sorted(others[folder]), folder, listed)
    return held


def _refuse(path: Path, compression: str, others: Sequence[str], folder: str, contents: str):
    if others:
        raise InputError(
            f"{path}: nothing of {folder} in compression {compression}, but in "
            f"{', '.join(others)}: give --config.data.compression={others[0]}, or get {compression}"
        )
    method = folder.split("/")[1]
    advice = (
        f"get it, or remove {DFD if method == 'actors' else method} from config.data.methods"
        if method != "youtube"
        else "get the original videos"
    )
    raise InputError(f"{path}: nothing of {folder} there, but {contents}: {advice}")
