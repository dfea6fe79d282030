"""The videos in a copy of Celeb-DF v2: the official test list, and a validation split by person.

The official list has 1 for real and 0 for fake.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records import deepfakebench
from deepfidelity_jax.records.benchmark_builder import Holding, find_root, name_some
from deepfidelity_jax.records.benchmark_video import Video, list_folder, size_of
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL

TEST_LIST = "List_of_testing_videos.txt"
LISTED = 518
# The label of each folder, and the number of videos in the full distribution.
LABELS = {"Celeb-real": REAL, "YouTube-real": REAL, "Celeb-synthesis": FAKE}
COUNTS = {"Celeb-real": 590, "YouTube-real": 300, "Celeb-synthesis": 5639}
METHOD = "Celeb-synthesis"

# id<target>_id<source>_<number> and id<person>_<number>. People in YouTube-real are not named.
NAME = re.compile(r"id(\d+)_(?:id(\d+)_)?\d+")

# The videos in a folder of the dataset: name -> frames, none for a video file.
Held = dict[str, tuple[str, ...]]


def list_videos(manual_dir: Path, validation: float, bench_json: str = "") -> Holding:
    """List all videos, in the splits `test` (the official list), `validation` and `train`.

    Args:
      manual_dir: the copy as distributed; with `bench_json`, the root of DeepfakeBench's frames.
      validation: share for validation of the people outside the test list.
      bench_json: DeepfakeBench's list of frames, if the copy has those instead of videos.
    """
    inside = manual_dir / "Celeb-DF-v2"
    root = find_root(inside if inside.is_dir() else manual_dir, tuple(LABELS), "celeb_df")
    tested = read_test_list(root / TEST_LIST)
    if bench_json:
        held = deepfakebench.keep_present(read_listed(Path(bench_json).expanduser()), root)
        form, suffix, left_out = "/frames", "", {}
    else:
        held, left_out = read_folders(root)
        form, suffix = "", ".mp4"

    present = [(folder, name) for folder, videos in held.items() for name in sorted(videos)]
    splits, notes = divide([video for video in present if video not in tested], validation)
    splits |= dict.fromkeys(tested, "test")
    videos = []
    for folder, name in present:
        file = f"{folder}{form}/{name}{suffix}"
        if (folder, name) not in splits:
            continue
        frames = held[folder][name]
        video = Video(
            name=file,
            path=str(root if frames else root / file),
            label=LABELS[folder],
            method=ORIGINAL if LABELS[folder] == REAL else METHOD,
            video_id=f"{folder}/{name}",
            split=splits[folder, name],
            origins=tuple(f"person/id{person}" for person in people_of(folder, name)),
            frames=frames,
            size=0 if frames else size_of(root / file),
        )
        videos.append(video)

    lacking = [f"{folder}/{name}" for folder, name in sorted(tested - set(present))]
    lacking += [f"{TEST_LIST}, a line of it"] * (LISTED - len(tested))
    missing = []
    for folder, count in COUNTS.items():
        gone = sum(name.startswith(f"{folder}/") for name in lacking)
        others = count - len(held[folder]) - gone
        missing += [(f"{folder} (one of it)", ("train", "validation"))] * others
    missing += [(name, ("test",)) for name in lacking]
    return Holding(videos, missing, left_out | notes)


def read_test_list(path: Path) -> set[tuple[str, str]]:
    """Folder and name of the official test videos; InputError if it is not the official list."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError:
        raise InputError(
            f"{path}: the official test list is missing (there is {name_some(path.parent)}); it "
            "comes with the videos, put it beside their folders"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: use the official list unchanged") from None
    tested = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        label, _, listed = line.strip().partition(" ")
        folder, _, file = listed.strip().partition("/")
        if folder not in LABELS or label not in ("0", "1") or not file:
            raise InputError(f"{path}, line {number}: {line!r} is not `<0 or 1> <folder>/<file>`")
        if int(label) != (LABELS[folder] == REAL):
            raise InputError(
                f"{path}, line {number}: {folder} has the label {label}, but in the official list "
                "1 is real and 0 is fake: use that list unchanged"
            )
        tested.add((folder, Path(file).stem))
    return tested


def read_folders(root: Path) -> tuple[dict[str, Held], dict[str, str]]:
    """The videos in the dataset's folders, and for each other file the reason it is left out.

    InputError if a folder is missing.
    """
    held, left_out = {}, {}
    for folder in LABELS:
        if not (root / folder).is_dir():
            raise InputError(
                f"{root / folder}: no such folder, but {name_some(root)}; the distribution has "
                f"{', '.join(LABELS)}"
            )
        names, others = list_folder(root, folder, (".mp4",))
        held[folder] = {Path(name).stem: () for name in names}
        left_out |= others
    return held, left_out


def read_listed(path: Path) -> dict[str, Held]:
    """The frames in DeepfakeBench's list. Its splits overlap and are ignored."""
    held = {folder: {} for folder in LABELS}
    for video in deepfakebench.read(path, tuple(LABELS)):
        held[video.frames[0].split("/")[0]][video.name] = video.frames
    return held


def people_of(folder: str, name: str) -> tuple[str, ...]:
    """Numbers of the people a video shows or was made from, target first."""
    match = NAME.fullmatch(name)
    return tuple(person for person in match.groups() if person) if match else ()


def divide(
    videos: Sequence[tuple[str, str]], share: float
) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """`train` or `validation` for each video, and notes on those that can be in neither.

    Nobody is in both splits: a fake made from a person in each is left out.
    """
    people = {video: people_of(*video) for video in videos}
    held_out = hold_out(people.values(), share)
    # People in YouTube-real are unknown. Every n-th video is held out, as if each were one person.
    strangers = sorted(video for video, shown in people.items() if not shown)
    count = round(share * len(strangers))
    validated = {strangers[(2 * i + 1) * len(strangers) // (2 * count)] for i in range(count)}
    splits, notes = {}, {}
    for video, shown in people.items():
        inside = [person in held_out for person in shown] or [video in validated]
        if all(inside):
            splits[video] = "validation"
        elif not any(inside):
            splits[video] = "train"
        else:
            notes["/".join(video)] = "made of a person in validation and one in training"
    return splits, notes


def hold_out(videos: Iterable[tuple[str, ...]], share: float) -> set[str]:
    """Choose a share of the people so that few fakes mix one of them with somebody else.

    Greedy: begins with the pair that shares the largest part of its fakes, then adds whoever leaves
    the fewest fakes between the people inside and outside. Deterministic.

    Args:
      videos: the people in each video: one for a real video, two for a fake.
      share: of all people. At least two are chosen if there are four or more.
    """
    videos = list(videos)
    people = sorted({person for shown in videos for person in shown}, key=int)
    fakes = Counter(frozenset(shown) for shown in videos if len(set(shown)) == 2)
    bonds = Counter(
        person for pair, count in fakes.items() for person in pair for _ in range(count)
    )
    if len(people) < 4 or not fakes:
        return set()

    def binding(pair):
        together = fakes[frozenset(pair)]
        return together / max(1, sum(bonds[person] for person in pair) - together)

    inside = set(max(combinations(people, 2), key=binding))
    while len(inside) < min(round(share * len(people)), len(people) - 2):

        def cost(person):
            return bonds[person] - 2 * sum(fakes[frozenset((person, other))] for other in inside)

        inside.add(min((person for person in people if person not in inside), key=cost))
    return inside
