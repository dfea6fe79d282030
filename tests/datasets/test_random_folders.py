"""What holds for any folder: trees drawn at random, listed, changed and listed again."""

import os
import random
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_changed_data import configured, prepared, rows
from test_own_data import picture

from deepfidelity_datasets.face_folder.sources import list_sources
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import digest
from deepfidelity_jax.records.own_files import digest_contents
from deepfidelity_jax.records.schema import FAKE, REAL, SPLITS, metadata_of

pytestmark = pytest.mark.usefixtures("one_core")

SHARES = (0.6, 0.2, 0.2)
TREES = int(os.environ.get("TREES", 50))  # a campaign tries more
PICTURES = [picture(seed) for seed in range(300)]
FOLDERS = ("anna", "Ünal", "u\u0308nal", "id 7", "7", "-x", "x [v2]*", "a\nb", "😀", "Anna", "v1")
NAMES = ("a", "A", "b c", "ä", "a\u0308", "-rf", "%s{0}", "'q'\"", "x\ny", "🎭", "~", "img_1", "07")
JUNK = (("notes.txt", b"text"), ("Thumbs.db", b"\1\2"), (".DS_Store", b"x"), ("broken.jpg", b"no"))
GROUPS = ("", "file", "folder", "prefix:[a-z]+", r"prefix:\w+?(?=_)")
CLASSES = {REAL: ("real", "Real", "REAL"), FAKE: ("fake", "FAKE", "Fake")}
GIVEN = {"train": "train", "val": "validation", "test": "test"}


@dataclass
class Tree:
    """A folder, and the label of every picture put into it, None for what is of no class."""

    folder: Path
    rng: random.Random
    classed: bool = True
    inside: bool = False  # splits in the classes
    splits: tuple[str, ...] = ("",)
    names: dict[int, str] = field(default_factory=dict)
    labels: dict[Path, int | None] = field(default_factory=dict)

    @classmethod
    def draw(cls, folder, seed, names=None, *, inside=False):
        """The same for the same seed, whatever the `names` of the classes, if they sort alike.

        inside: with classes, and splits in each.
        """
        rng = random.Random(seed)
        tree = cls(folder / "tree", rng, inside=inside)
        tree.classed = inside or rng.random() < 0.85
        if inside or (tree.classed and rng.random() < 0.3):
            tree.splits = rng.choice((("train", "val", "test"), ("train", "test")))
        tree.names = {label: rng.choice(own) for label, own in CLASSES.items()} | (names or {})
        for split in tree.splits:
            for label in tree.classes:
                tree.add(split, label, rng.randint(9, 26))
        for _ in range(rng.randint(0, 4)):
            tree.disturb()
        return tree

    @property
    def classes(self):
        return (REAL, FAKE) if self.classed else (REAL,)

    def place(self, split, label):
        own = self.names[label] if self.classed else ""
        top = self.folder.joinpath(*((own, split) if self.inside else (split, own)))
        depth = self.rng.choice((0, 0, 0, 1, 1, 2))
        return top.joinpath(*(self.rng.choice(FOLDERS) for _ in range(depth)))

    def data(self, split, label):
        """A picture, seldom one of another class or split."""
        if self.rng.random() < 0.002:
            return self.rng.choice(PICTURES)
        return self.rng.choice(PICTURES[2 * self.splits.index(split) + label :: 6])

    def add(self, split, label, count):
        """New pictures of a class, at times as numbered frames in folders."""
        frames = self.rng.random() < 0.2
        for number in range(count):
            folder = self.place(split, label)
            name = f"{self.rng.choice(NAMES)}{number}.png"
            if frames:
                folder, name = folder / f"clip{number // 4}", f"{number:03d}.png"
            self.write(folder / name, self.data(split, label), label)

    def write(self, path, data, label):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            path.write_bytes(data)
            self.labels[path] = label

    def disturb(self):
        """Something that happens to folders."""
        split, label = self.rng.choice(self.splits), self.rng.choice(self.classes)
        top, number = self.place(split, label), self.rng.randrange(10**6)
        top.mkdir(parents=True, exist_ok=True)
        kind = self.rng.randrange(7)
        if kind == 0:
            (top / f"dangling{number}.png").symlink_to("nowhere")
        elif kind == 1:
            (top / f"round{number}.png").symlink_to(f"round{number}.png")
        elif kind == 2:
            (top / f"up{number}").symlink_to(self.folder)
        elif kind == 3:
            name, data = self.rng.choice(JUNK)
            (top / name).write_bytes(data)
        elif kind == 4:
            raw = os.path.join(os.fsencode(top), b"raw\xff%d.png" % number)
            self.write(Path(os.fsdecode(raw)), self.data(split, label), label)
        elif kind == 5 and self.classed:
            self.write(self.folder / "holiday" / f"{number}.png", self.data(split, label), None)
        elif kind == 6:
            # A copy, by a link or not, beside the first.
            path = self.rng.choice(sorted(self.labels))
            copy = path.with_name(f"copy{number}.png")
            if self.rng.random() < 0.5:
                copy.symlink_to(path)
            else:
                shutil.copy(path, copy)
            self.labels[copy] = self.labels[path]

    def change(self):
        """Some go, some come, some are renamed."""
        for path in self.rng.sample(sorted(self.labels), len(self.labels) // 6):
            label = self.labels.pop(path)
            if self.rng.random() < 0.4 and label is not None and path.exists():
                self.write(path.with_name(f"moved {path.name}"), path.read_bytes(), label)
            path.unlink()
        for _ in range(self.rng.randint(0, 3)):
            split, label = self.rng.choice(self.splits), self.rng.choice(self.classes)
            self.add(split, label, self.rng.randint(1, 4))
        for path in [path for path in self.labels if not path.exists()]:
            del self.labels[path]  # a link whose file has gone

    def walk(self):
        """Every file and link to a file, in each folder once."""
        found, seen = [], set()
        for root, folders, files in os.walk(self.folder, followlinks=True):
            if os.stat(root).st_ino in seen:
                folders.clear()
                continue
            seen.add(os.stat(root).st_ino)
            found += [Path(root, name) for name in files]
        return found


def listed(tree, group, seed, **options):
    """What is listed by the first seed that does; None where it is refused for what it is."""
    for own in (seed, *range(8)):
        try:
            return list_sources(tree.folder, SHARES, own, group=group, **options), own
        except InputError as error:
            if "split gets none of" not in str(error):
                break
    return None, own


def group_of(source, group):
    """What must be in one split, told by path and name; None where nothing is."""
    parts = source.path.split("/tree/")[1].split("/")
    if group == "folder":
        top = next(n for n, part in enumerate(parts) if part.casefold() in ("real", "fake"))
        return "/".join(parts[:-1]) if len(parts) > top + 2 else None
    if group.startswith("prefix:"):
        match = re.match(group[7:], parts[-1])
        return match[0] if match and match[0] else None
    return None


def check(tree, found, group):
    """What holds for one listing."""
    paths = {Path(source.path): source for source in found.sources}
    # Every file is recorded or listed, once.
    names = [source.name for source in found.sources]
    assert len(paths) == len(names)
    assert len({*names, *found.notes}) == len(names) + len(found.notes)
    folders = sum("which is listed" in note for note in found.notes.values())
    assert len(tree.walk()) == len(names) + len(found.notes) - folders
    # Each by its label, and none that has none.
    assert all(tree.labels[path] == source.label for path, source in paths.items())
    there = {digest(path) for path, label in tree.labels.items() if label is not None}
    assert sorted(source.digest for source in found.sources) == sorted(there)
    # No group in two splits.
    groups = {}
    for source in found.sources:
        if tree.classed and (key := group_of(source, group)) is not None:
            groups.setdefault(key, set()).add(source.split)
        if tree.splits != ("",):
            given = source.name.split("/")[0]
            drawn = given == "train" and "val" not in tree.splits
            assert source.split == GIVEN[given] or (drawn and source.split == "validation")
    assert all(len(splits) == 1 for splits in groups.values()), groups
    # Something of each class in every split.
    pairs = {(source.split, source.label) for source in found.sources}
    assert pairs == {(split, label) for split in SPLITS for label in tree.classes}


def compare(first, second, group):
    """What holds between a listing and one after a change, by the same seed."""
    before = {source.digest: source for source in first.sources}
    after = {source.digest: source for source in second.sources}
    for own in before.keys() & after.keys():
        # By another name, or kept of other copies, it may belong to another group.
        if group in ("", "file") or before[own].name == after[own].name:
            assert before[own].split == after[own].split
    learnt = [
        {(own, source.label, source.split) for own, source in of.items() if source.split != "test"}
        for of in (before, after)
    ]
    same = len({digest_contents(found.sources, made=found.made) for found in (first, second)}) == 1
    assert same == (learnt[0] == learnt[1]), "a detector of the first goes on with what it learnt"
    tested = {own for own, source in after.items() if source.split == "test"}
    assert not same or not tested & {own for own, *_ in learnt[0]}


@pytest.mark.parametrize(
    "start", [0, *(pytest.param(start, marks=pytest.mark.slow) for start in range(50, TREES, 50))]
)
def test_any_folder(tmp_path, start):
    counts = Counter()
    for seed in range(start, start + 50):
        tree = Tree.draw(tmp_path / str(seed), seed)
        group = tree.rng.choice(GROUPS)
        first, own = listed(tree, group, seed)
        if first:
            check(tree, first, group)
        tree.change()
        try:
            second = list_sources(tree.folder, SHARES, own, group=group)
        except InputError:
            second = None
        if second:
            check(tree, second, group)
        if first and second:
            compare(first, second, group)
        counts[first is not None, second is not None] += 1
        shutil.rmtree(tmp_path / str(seed))
    assert counts[True, True] > 15, counts


def test_class_folders_by_option_are_those_by_name(tmp_path):
    """Options name the class folders: nothing else changes, least of all what is tested on."""
    names, others = {REAL: "real", FAKE: "fake"}, {REAL: "original", FAKE: "altered"}
    counts = Counter()
    for seed in range(24):
        told = []
        for own in (names, others):
            tree = Tree.draw(tmp_path / own[REAL], seed, own, inside=seed % 3 > 0)
            if not tree.classed or (not tree.inside and tree.splits != ("",)):
                break  # an option names one folder, not one in each split
            group = tree.rng.choice(GROUPS)
            both = {"real_folder": own[REAL], "fake_folder": own[FAKE]} if own is others else {}
            found, used = listed(tree, group, seed, **both)
            places = len(tree.folder.parts) + 1  # of the class and all around it
            rows = found and {
                (one.path.split("/", places)[-1], one.label, one.method, one.split, one.frame)
                for one in found.sources
            }
            told.append((rows, used))
            shutil.rmtree(tmp_path / own[REAL])
        else:
            assert told[0] == told[1], seed
            counts[tree.inside] += told[0][0] is not None
    assert min(counts[True], counts[False]) > 2, counts


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1200, 100))
def test_any_folder_as_records(tmp_path, start):
    built = 0
    for seed in range(start, start + 100):
        tree = Tree.draw(tmp_path / str(seed), seed)
        group = tree.rng.choice(GROUPS)
        found, own = listed(tree, group, seed)
        if found is None:
            continue
        config = configured(tree.folder, **{"data.group": group, "seed": own})
        builder = prepared(config, tmp_path / "records")
        recorded = [(split, row) for split, of in rows(builder).items() for row in of]
        assert metadata_of(Path(builder.data_path))["notes"] == found.notes
        sources = {source.name: source for source in found.sources}
        assert {row["path"] for _, row in recorded} == sources.keys()
        videos = {}
        for split, row in recorded:
            source = sources[row["path"]]
            assert split in (source.split, "sources")
            assert row["method"] == source.method or found.made
            assert row["label"] == source.label or found.made
            videos.setdefault(row["video_id"], set()).add((source.split, row["label"]))
        assert all(len(of) == 1 for of in videos.values())
        assert found.made or len(recorded) == len(sources)
        built += 1
        if built == 8:
            return
    raise AssertionError(f"only {built} of 100 folders were not refused")
