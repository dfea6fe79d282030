"""Miniature benchmarks: official layouts, tiny real videos and archives; and files gone bad."""

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from deepfidelity_datasets.celeb_df.sources import TEST_LIST
from deepfidelity_datasets.ffpp.splits import PAIRS
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.records.schema import Records, metadata_of, splits_of


def numbered(seed, number, side=48):
    """A picture of its own for each seed; eight dark or bright blocks spell the frame's number."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 190, (4, 4, 3)).astype(np.float32)
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    image += rng.normal(0, rng.uniform(1, 12), image.shape)
    for bit in range(8):
        left = bit * side // 8
        image[: side // 3, left : left + side // 8] = 235 if number >> bit & 1 else 20
    return np.clip(image, 0, 255).astype(np.uint8)


def told(image):
    """The number that `numbered` wrote, from a copy of any size and coding."""
    side = image.shape[0]
    blocks = (image[2 : side // 4, b * side // 8 + 2 : (b + 1) * side // 8 - 2] for b in range(8))
    return sum(int(block.mean() > 128) << bit for bit, block in enumerate(blocks))


def write_video(path, frames):
    """An mp4 without sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def write_numbered(path, seed, count=10):
    """A video of `count` numbered frames."""
    write_video(path, [numbered(seed, number) for number in range(count)])


def film(seed, count=4, people=1, side=120, shape=(180, 300)):
    """Frames of rendered people on a grey wall; `seed` names the first."""
    frames = [np.full((*shape, 3), 110, np.uint8) for _ in range(count)]
    for person in range(people):
        rng = np.random.default_rng(1000 * person + seed)
        who, where = renderer.sample_identity(rng), renderer.sample_scene(rng)
        left = 15 + person * (shape[1] // people)
        for number, pose in enumerate(renderer.sample_poses(rng, count)):
            face, _ = renderer.render(who, where, pose, side)
            frames[number][30 : 30 + side, left + number : left + number + side] = face
    return frames


def some_pairs(per_split=1):
    """The first pairs of each official FaceForensics++ split."""
    return {split: pairs[:per_split] for split, pairs in PAIRS.items()}


def ffpp(root, methods, compression="c23", per_split=1, write=write_numbered):
    """FaceForensics++ with the first pairs of each split; `write(path, seed)` makes a video."""
    for pairs in some_pairs(per_split).values():
        for pair in pairs:
            for target, source in (pair, pair[::-1]):
                place = root / f"original_sequences/youtube/{compression}/videos/{target}.mp4"
                write(place, int(target))
                for number, method in enumerate(methods, 1):
                    place = root / f"manipulated_sequences/{method}/{compression}/videos"
                    write(place / f"{target}_{source}.mp4", 1000 * number + int(target))
                    masks = root / f"manipulated_sequences/{method}/masks/videos"
                    masks.mkdir(parents=True, exist_ok=True)
                    (masks / f"{target}_{source}.mp4").touch()
    return root


DFD_REAL = ("01__walking", "02__walking", "02__hugging_happy")
DFD_FAKE = ("01_02__walking__ABCD1234", "02_01__walking__QWERTY12")


def dfd(root, compression="c23"):
    """DeepFakeDetection and its actors, beside FaceForensics++ or alone."""
    for number, name in enumerate(DFD_REAL):
        place = root / f"original_sequences/actors/{compression}/videos/{name}.mp4"
        write_numbered(place, 50 + number)
    for number, name in enumerate(DFD_FAKE):
        place = root / f"manipulated_sequences/DeepFakeDetection/{compression}/videos/{name}.mp4"
        write_numbered(place, 60 + number)
    return root


def celeb_names():
    """Names in each folder, and those of the test list: two circles of three people each."""
    names = {"Celeb-real": [], "YouTube-real": [], "Celeb-synthesis": []}
    for circle in ((0, 1, 2), (3, 4, 16)):
        for a in circle:
            names["Celeb-real"] += [f"id{a}_{n:04d}" for n in range(2)]
            names["Celeb-synthesis"] += [f"id{a}_id{b}_{0:04d}" for b in circle if b != a]
    names["Celeb-synthesis"].append("id0_id3_0001")  # between the circles
    names["YouTube-real"] = [f"{n:05d}" for n in range(8)]
    tested = ["Celeb-real/id0_0001", "Celeb-real/id16_0001", "YouTube-real/00003"]
    tested += ["Celeb-synthesis/id0_id1_0000", "Celeb-synthesis/id16_id3_0000"]
    return names, tested


def celeb_list(tested):
    """The official form: 1 is real, no newline at the end."""
    lines = (f"{int('-real' in name)} {name}.mp4" for name in tested)
    return "\n".join(lines)


def celeb_df(root, write=write_numbered):
    """Celeb-DF v2."""
    names, tested = celeb_names()
    for folder, videos in names.items():
        for number, name in enumerate(videos):
            write(root / folder / f"{name}.mp4", 100 * len(folder) + number)
    (root / TEST_LIST).write_text(celeb_list(tested))
    return root


def write_archive(path, sequences, label, compressed, damage=()):
    """One archive of WildDeepfake: `{sequence: frame numbers}`; names are not zero padded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = path.name.split(".")[0]
    with tarfile.open(path, "w:gz" if compressed else "w") as archive:
        for sequence, frames in sequences.items():
            for frame in frames:
                data = png(numbered(hash_of(path, sequence), frame, side=32))
                if (sequence, frame) in damage:
                    data = data[: len(data) // 2]
                info = tarfile.TarInfo(f"./{number}/{label}/{sequence}/{frame}.png")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def hash_of(path, sequence):
    """A seed of a sequence."""
    return sum(
        ord(letter) * (n + 1) for n, letter in enumerate(f"{path.parent.name}{path.name}{sequence}")
    )


def png(image):
    """Encoded losslessly."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def wild_deepfake(root, train=6, test=2):
    """WildDeepfake: every other `.tar.gz` is a plain tar; sequence names repeat."""
    for label in ("real", "fake"):
        for split, count in (("train", train), ("test", test)):
            for number in range(1, count + 1):
                # The frames go missing here and there, and are stored out of order.
                sequences = {"0": [3, 20, *range(5, 15)], str(number): [100, 7, 9]}
                path = root / f"{label}_{split}" / f"{number}.tar.gz"
                write_archive(path, sequences, label, compressed=number % 2 == 0)
    return root


def write_crops(folder, seed, numbers, side=96):
    """DeepfakeBench's crops of a video, and the 81 landmarks of each."""
    landmarks = folder.parents[1] / "landmarks" / folder.name
    for place in (folder, landmarks):
        place.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(numbered(seed, number, side)).save(folder / f"{number:03d}.png")
        np.save(landmarks / f"{number:03d}.npy", points_81(number, side))


def points_81(number, side=96):
    """Landmarks that tell their index and frame: point i at x = i / 2, y = i / 4 + frame / 10."""
    index = np.arange(81, dtype=np.float64)
    return np.stack([index / 2, index / 4 + number / 10], 1) * side / 96


def entry(label, paths, separator):
    """A video in DeepfakeBench's JSON, its frames in the order of a directory listing."""
    joined = [path.replace("/", separator) for path in sorted(paths, key=lambda p: p[::-1])]
    return {
        "label": label,
        "frames": joined,
        "masks": [path.replace("frames", "masks") for path in joined],
    }


BENCH_FRAMES = (0, 2, 10, 30, 100, 111)  # 2 comes before 10 by number and after it by name


def bench_ffpp(root, methods, compression="c23", separator="/"):
    """DeepfakeBench's FaceForensics++; its JSON file, whose splits are all wrong."""
    labels = {"Deepfakes": "FF-DF", "Face2Face": "FF-F2F", "FaceSwap": "FF-FS"}
    tree = {"FF-real": {"train": {}, "val": {}, "test": {}}}
    tree |= {labels[method]: {"train": {}, "val": {}, "test": {}} for method in methods}
    for pairs in some_pairs().values():
        for pair in pairs:
            for target, source in (pair, pair[::-1]):
                for number, method in enumerate([None, *methods]):
                    name = f"{target}_{source}" if method else target
                    kind = (
                        f"manipulated_sequences/{method}"
                        if method
                        else "original_sequences/youtube"
                    )
                    place = f"FaceForensics++/{kind}/{compression}/frames/{name}"
                    write_crops(root / place, 1000 * number + int(target), BENCH_FRAMES)
                    label = labels[method] if method else "FF-real"
                    paths = [f"{place}/{n:03d}.png" for n in BENCH_FRAMES]
                    videos = tree[label]["train"].setdefault(compression, {})
                    videos[name] = entry(label, paths, separator)
    path = root / "FaceForensics++.json"
    path.write_text(json.dumps({"FaceForensics++": tree}))
    return path


def bench_celeb_df(root, separator="\\"):
    """DeepfakeBench's Celeb-DF v2: its training list holds the test videos, `val` equals `test`."""
    names, tested = celeb_names()
    tree = {
        label: {"train": {}, "val": {}, "test": {}}
        for label in ("CelebDFv2_real", "CelebDFv2_fake")
    }
    for folder, videos in names.items():
        for number, name in enumerate(videos):
            place = f"Celeb-DF-v2/{folder}/frames/{name}"
            write_crops(root / place, 100 * len(folder) + number, BENCH_FRAMES)
            label = "CelebDFv2_real" if "real" in folder else "CelebDFv2_fake"
            paths = [f"{place}/{n:03d}.png" for n in BENCH_FRAMES]
            tree[label]["train"][name] = entry(label, paths, separator)
            if f"{folder}/{name}" in tested:
                for split in ("val", "test"):
                    tree[label][split][name] = tree[label]["train"][name]
    (root / "Celeb-DF-v2" / TEST_LIST).write_text(celeb_list(tested))
    path = root / "Celeb-DF-v2.json"
    path.write_text(json.dumps({"Celeb-DF-v2": tree}))
    return path


def set_up(config, dataset, manual_dir, **data):
    """A configuration for one of these trees: numbered frames are ready crops."""
    config.data.dataset, config.data.manual_dir = dataset, str(manual_dir)
    config.data.incomplete = True  # miniatures lack nearly everything
    config.faces.detector, config.faces.size, config.faces.frames = "none", 48, 4
    for name, value in data.items():
        config.data[name] = value
    return config


def build(builder_class, config, place):
    """Build the records; rows of each split, and the metadata."""
    builder = builder_class.configured(config, place)
    builder.download_and_prepare()
    folder = Path(builder.data_path)
    rows = {}
    for split in splits_of(folder):
        opened = Records(folder, split)
        rows[split] = [opened[index] for index in range(len(opened))]
    return rows, metadata_of(folder)


def draw_person(number, size=320):
    """A rendered face in front of a grey wall."""
    rng = np.random.default_rng(number)
    face, _ = renderer.render(
        renderer.sample_identity(rng), renderer.sample_scene(rng),
        renderer.sample_poses(rng, 1)[0], size,
    )  # fmt: skip
    ground = np.full((480, 640, 3), 120, np.uint8)
    ground[80 : 80 + size, 160 : 160 + size] = face
    return ground


def bad_files(folder):
    """Write damaged and empty files, as people's folders hold them; the reason told for each."""
    (folder / "text.jpg").write_text("no picture")
    Image.fromarray(draw_person(1)).save(folder / "cut.jpg", quality=95)
    content = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    (folder / "zero.mp4").write_bytes(b"")
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    body = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return {
        "text.jpg": "not a photograph or video",
        "cut.jpg": "truncated JPEG",
        "dot.png": "1x1 pixels",
        "zero.mp4": "empty file",
        "huge.png": "30000x30000 pixels",
    }
