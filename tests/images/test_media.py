"""What lies in a folder, and whether each file is an image or a video."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, features
from samples import counted_video, gradient, told

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images import media, pictures, videos
from deepfidelity_jax.images.formats import MediaError


def test_listing_is_sorted_recursive_and_skips_the_hidden(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a.mp4", ".hidden/x.jpg", "b/.y.jpg", "notes.txt", "b/c/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listing = media.list_files(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in listing.files]
    assert names == ["a.mp4", "b/1.png", "b/2.JPG", "b/c/d", "notes.txt"]
    assert listing.left_out == dict.fromkeys(
        [tmp_path / ".hidden", tmp_path / "b/.y.jpg"], "hidden"
    )
    with pytest.raises(InputError, match="not a folder"):
        media.list_files(tmp_path / "missing")
    with pytest.raises(InputError, match="not a folder"):
        media.list_files(tmp_path / "notes.txt")


@pytest.fixture
def odd_folder(tmp_path):
    """What no program should choke on: of each, name and reason."""
    place = tmp_path / "odd"
    (place / "z" / "inside").mkdir(parents=True)
    (place / "z" / "inside" / "a.jpg").write_bytes(b"")
    os.mkfifo(place / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place / "socket.jpg"))
    (place / "device.jpg").symlink_to("/dev/zero")
    (place / "dangling.jpg").symlink_to(place / "nothing.jpg")
    (place / "round.jpg").symlink_to(place / "round.jpg")
    (place / "back").symlink_to(place, target_is_directory=True)
    (place / "again").symlink_to(place / "z" / "inside", target_is_directory=True)
    return place, {
        "fifo.jpg": "a FIFO, not a file",
        "socket.jpg": "a socket, not a file",
        "device.jpg": "a device, not a file",
        "dangling.jpg": "a link to nothing",
        "round.jpg": "links that lead in a circle",
        "back": f"a link to {place}, which is listed",
        "again": f"a link to {place / 'z' / 'inside'}, which is listed",
    }


def test_what_is_no_file_is_left_out_with_a_reason(odd_folder):
    place, reasons = odd_folder
    listing = media.list_files(place)
    assert {path.name: reason for path, reason in listing.left_out.items()} == reasons
    assert listing.files == [place / "z" / "inside" / "a.jpg"], "where it really lies"


def test_what_is_no_file_is_never_opened(odd_folder):
    """A FIFO or device that is opened would hang, or be read for ever."""
    place, reasons = odd_folder
    for name in reasons:
        folder = (place / name).is_dir()
        reason = "a folder, not a file" if folder else reasons[name]
        for read in (media.identify, pictures.read_image, videos.video_info):
            with pytest.raises(MediaError, match=reason):
                read(place / name)


def test_what_may_not_be_read_costs_only_itself():
    # Folders of pytest and of these tests are shut to others.
    with tempfile.TemporaryDirectory(dir=os.environ["PYTEST_DEBUG_TEMPROOT"]) as folder:
        folder = Path(folder)
        (folder / "shut").mkdir()
        (folder / "a.jpg").write_bytes(b"")
        for path, mode in ((folder, 0o755), (folder / "shut", 0), (folder / "a.jpg", 0)):
            path.chmod(mode)
        if user := os.geteuid():
            check_shut(folder)
            return
        try:
            os.seteuid(65534)  # root may read everything
            check_shut(folder)
        finally:
            os.seteuid(user)


def check_shut(folder):
    listing = media.list_files(folder)
    assert listing.files == [folder / "a.jpg"]
    assert listing.left_out == {folder / "shut": "permission denied"}
    with pytest.raises(MediaError, match="permission denied"):
        media.identify(folder / "a.jpg")


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "a.jpg").write_bytes(b"")
    (tmp_path / "in").mkdir()
    for name in ("one", "two"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "in" / "file").symlink_to(tmp_path / "elsewhere" / "deep" / "a.jpg")
    listing = media.list_files(tmp_path / "in")
    assert listing.files == [tmp_path / "in" / "file", tmp_path / "in" / "one" / "deep" / "a.jpg"]
    assert list(listing.left_out) == [tmp_path / "in" / "two"]


SAVED = {  # name by which Pillow or OpenCV writes it: what it is
    "jpg": "image", "png": "image", "bmp": "image", "tif": "image", "gif": "image",
    "webp": "image", "jp2": "image", "avif": "image", "mp4": "video", "avi": "video",
    "mkv": "video", "webm": "video", "ts": "video", "mpg": "video", "wmv": "video", "flv": "video",
}  # fmt: skip
CODECS = {"webm": "VP80", "ts": "mpg2", "mpg": "MPG1", "flv": "FLV1", "wmv": "WMV2"}


@pytest.mark.parametrize("suffix", SAVED)
def test_content_tells_what_a_file_is(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if SAVED[suffix] == "video":
        counted_video(path, frames=30, codec=CODECS.get(suffix, "mp4v"))
    elif suffix == "avif" and not features.modules.get("avif"):
        pytest.skip("this Pillow has no AVIF")
    else:
        Image.fromarray(gradient()).save(path)
    for name in ("b.jpg", "b.mp4", "b.%03d.png", "concat:b.dat", "b.txt", "b"):
        other = path.rename(tmp_path / name)
        assert media.identify(other) == SAVED[suffix]
        if SAVED[suffix] == "image":
            assert pictures.read_image(other).shape == (40, 64, 3)
            (frame,) = videos.read_frames_at(other, [0, 1])
            assert (frame.image == pictures.read_image(other)).all()
        else:
            assert [told(frame.image) for frame in videos.read_frames(other, 3)] == [5, 15, 25]
            with pytest.raises(MediaError, match="a video"):
                pictures.read_image(other)
        path = other


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
def test_animated_pictures_are_videos(tmp_path, suffix):
    if suffix == "avif" and not features.modules.get("avif"):
        pytest.skip("this Pillow has no AVIF")
    images = [Image.fromarray(np.full((40, 64, 3), 40 * n, np.uint8)) for n in range(6)]
    images[0].save(tmp_path / "a", suffix, save_all=True, append_images=images[1:], duration=200)
    assert media.identify(tmp_path / "a") == "video"
    assert videos.video_info(tmp_path / "a") == videos.VideoInfo(6, 5.0)
    frames = list(videos.read_frames(tmp_path / "a", 3))
    assert [frame.index for frame in frames] == [1, 3, 5]
    assert [frame.time for frame in frames] == pytest.approx([0.2, 0.6, 1.0])
    for frame in frames:
        assert frame.image.mean() == pytest.approx(40 * frame.index, abs=3)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
def test_an_animation_lasts_as_long_as_its_frames(tmp_path, suffix):
    if suffix == "avif" and not features.modules.get("avif"):
        pytest.skip("this Pillow has no AVIF")
    images = [Image.fromarray(np.full((40, 64, 3), 40 * n, np.uint8)) for n in range(6)]
    durations = [5000, 40, 40, 40, 40, 40]
    images[0].save(
        tmp_path / "a", suffix, save_all=True, append_images=images[1:], duration=durations
    )
    info = videos.video_info(tmp_path / "a")
    assert info.frames / info.rate == pytest.approx(5.2)


def test_damaged_files_make_no_noise(tmp_path):
    """Decoders write to the process's own stderr, past Python: it takes a process to hear them."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(
        cv2.GaussianBlur(rng.integers(0, 256, (64, 96, 3), np.uint8), (0, 0), 2)
    )
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "x" * 40, 6
    for suffix in ("jpg", "png", "bmp", "gif", "webp", "jp2"):
        picture.save(tmp_path / f"whole.{suffix}", exif=exif)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        picture.save(tmp_path / f"{compression}.tif", compression=compression)
    if features.modules.get("avif"):
        picture.save(tmp_path / "whole.avif", exif=exif)
    for suffix in ("mp4", "avi", "webm", "mpg"):
        counted_video(tmp_path / f"whole.{suffix}", frames=12, codec=CODECS.get(suffix, "mp4v"))
    wholes = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name, whole in wholes.items():
        for number in range(8):
            data = bytearray(whole)
            if number % 2:
                data = data[: rng.integers(len(data))]
            for place in rng.integers(0, len(data), 6 if data else 0):
                data[place] = rng.integers(256)
            (tmp_path / f"{number}.{name}").write_bytes(data)
    lines = (
        "import sys; from deepfidelity_jax.images import formats, media, pictures, videos\n"
        "for path in media.list_files(sys.argv[1]).files:\n"
        "    try: print(media.identify(path)); pictures.read_image(path)\n"
        "    except formats.MediaError: pass\n"
        "    try: list(videos.read_frames(path, 3))\n"
        "    except formats.MediaError: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", lines, tmp_path],
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("image") > 60
    assert done.stdout.count("video") > 15
