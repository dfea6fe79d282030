import os
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, features

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.forgeries import augment, degrade, forge
from deepfidelity_jax.images import formats, media, pictures, videos
from deepfidelity_jax.images.formats import MediaError


def gradient(height=40, width=64):
    """Red rises to the right, green downwards."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    image[..., 2] = 60
    return image


def png(width, height, depth, colour, rows=b""):
    """A PNG made by hand, for what Pillow does not write."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def counted_video(path, frames=90, size=(160, 128), codec="mp4v", rate=30):
    """A video whose frames tell their number: ten blocks, black or white, spell it in binary."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
    assert writer.isOpened()
    for number in range(frames):
        image = np.full((size[1], size[0], 3), 128, np.uint8)
        for bit in range(10):
            image[:, bit * 16 : bit * 16 + 16] = 235 if number >> bit & 1 else 20
        writer.write(image)
    writer.release()
    return path


def told(image):
    return sum(int(image[:, bit * 16 + 4 : bit * 16 + 12].mean() > 128) << bit for bit in range(10))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "jpg"])
def test_every_format_gives_the_same_picture(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"quality": 95, "subsampling": 0}
    Image.fromarray(gradient()).save(path, **options)
    image = pictures.read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), gradient(), atol=8 if suffix == "jpg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    # How a camera would store the upright picture, for each of the eight values of the tag.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](gradient())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(pictures.read_image(path), gradient())


def test_grey_palette_and_cmyk_become_rgb(tmp_path):
    picture = Image.fromarray(gradient())
    grey = picture.convert("L")
    grey.save(tmp_path / "grey.jpg", quality=95)
    image = pictures.read_image(tmp_path / "grey.jpg")
    assert image.shape == (40, 64, 3)
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2).astype(int)
    np.testing.assert_allclose(image.astype(int), expected, atol=4)

    palette = picture.quantize(256)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(
        pictures.read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB"))
    )

    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100, subsampling=0)
    image = pictures.read_image(tmp_path / "cmyk.jpg")
    np.testing.assert_allclose(image.astype(int), gradient(), atol=8)


def test_sixteen_bits_keep_the_high_byte(tmp_path):
    deep = np.linspace(0, 65535, 40 * 64).reshape(40, 64).astype(np.uint16)
    expected = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, 2)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(pictures.read_image(tmp_path / name), expected)
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in deep)
    (tmp_path / "rgb48.png").write_bytes(png(64, 40, 16, 2, rows))
    np.testing.assert_array_equal(pictures.read_image(tmp_path / "rgb48.png"), expected)


def test_what_is_transparent_is_white(tmp_path):
    alpha = np.full((40, 64, 1), 255, np.uint8)
    alpha[:, :32] = 0
    Image.fromarray(np.concatenate([gradient(), alpha], 2)).save(tmp_path / "a.png")
    image = pictures.read_image(tmp_path / "a.png")
    assert (image[:, :32] == 255).all()
    np.testing.assert_array_equal(image[:, 32:], gradient()[:, 32:])


def test_a_bomb_is_refused_by_its_header(tmp_path, recwarn):
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 8, 2))
    with pytest.raises(MediaError, match=r"30000x30000 pixels, more than 178 million"):
        pictures.read_image(tmp_path / "bomb.png")
    # Just below the bound Pillow would warn: the file has no pixels, and only that is said.
    (tmp_path / "large.png").write_bytes(png(12000, 12000, 1, 0))
    with pytest.raises(MediaError, match="PNG"):
        pictures.read_image(tmp_path / "large.png")
    assert not recwarn.list
    assert Image.MAX_IMAGE_PIXELS is not None


def test_bad_pictures_have_a_short_reason(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    Image.fromarray(gradient()).save(tmp_path / "whole.png")
    Image.fromarray(gradient()[:1, :1]).save(tmp_path / "dot.png")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    (tmp_path / "stub.jpg").write_bytes(whole[:200])
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    (tmp_path / "text.jpg").write_text("not a picture at all\n" * 40)
    (tmp_path / "empty.jpg").write_bytes(b"")
    reasons = {
        "cut.jpg": "truncated JPEG",
        "stub.jpg": "truncated or damaged JPEG",
        "cut.png": "(truncated|damaged) PNG",
        "text.jpg": "not a photograph or video",
        "empty.jpg": "empty file",
        "dot.png": "1x1 pixels, fewer than 16",
        "missing.jpg": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(MediaError, match=reason) as caught:
            pictures.read_image(tmp_path / name)
        assert len(str(caught.value)) < 80
        assert "\n" not in str(caught.value)
    assert issubclass(MediaError, ValueError)


def test_crops_are_coded_once_and_nearly_without_loss():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 1.5)
    coded = pictures.encode_image(image)
    assert coded == pictures.encode_image(image)
    decoded = pictures.decode_image(coded)
    assert abs(decoded.astype(int) - image).mean() < 2
    # 4:4:4: the sampling factors of luminance and colour are alike.
    frame = coded.index(b"\xff\xc0")
    assert coded[frame + 11] == coded[frame + 14] == coded[frame + 17] == 0x11
    for bad in (b"", b"nothing"):
        with pytest.raises(MediaError):
            pictures.decode_image(bad)


class OnlyJpeg(np.random.Generator):
    """Draws that make `forge` alter a face by JPEG alone."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))
        self.draws = iter([0.9, 0.9, 0.9, 0.0])

    def random(self):
        return next(self.draws)


@pytest.mark.parametrize(
    "recompress",
    [
        lambda image: pictures.recompress(image, 50),
        lambda image: degrade.jpeg(image, 0.3),
        lambda image: augment.recompress(image, np.random.default_rng(0), (50, 50)),
        lambda image: forge._alter(image, OnlyJpeg()),
    ],
    ids=["media", "degrade", "augment", "forge"],
)
def test_red_stays_red_through_every_recompression(recompress):
    """Stripes of a pixel live in the luminance alone, which is 0.30 of red and 0.11 of blue."""
    kept = []
    for channel in (0, 2):
        image = np.zeros((64, 64, 3), np.uint8)
        image[:, ::2, channel] = 255
        again = recompress(image)
        assert (again != image).any()
        kept.append(np.ptp(again[16:48, 16:48].mean((0, 2)).astype(float)))
    assert kept[0] > 1.8 * kept[1]


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
            with pytest.raises(MediaError):
                next(videos.read_frames_at(tmp_path / "missing", [0]))
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


def test_formats_that_cannot_be_decoded_are_named_with_what_helps(tmp_path, monkeypatch):
    # A Pillow built without the libraries.
    monkeypatch.setattr(formats, "_decodes", lambda kind: kind == "TIFF")
    brand = b"\0\0\0\x1cftyp%s\0\0\0\0mif1%s" + bytes(100)
    for content, kind, advice in (
        (brand % (b"heic", b"miaf"), "HEIC", "pillow-heif"),
        (brand % (b"mif1", b"avif"), "AVIF", "JPEG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "JPEG2000", "JPEG"),
        (b"\xff\x0a" + bytes(100), "JPEG XL", "JPEG"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "camera RAW", "JPEG"),
        (brand % (b"crx ", b"isom"), "camera RAW", "JPEG"),
        (b"8BPS" + bytes(100), "Photoshop", "PNG"),
        (b'<?xml version="1.0"?>\n<svg width="3">', "SVG", "PNG"),
    ):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(MediaError, match=f"{kind}.*{advice}") as caught:
            media.identify(tmp_path / "a")
        assert not isinstance(caught.value, formats.NotMedia)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[formats.DNG_VERSION] = b"\1\4\0\0"
    Image.fromarray(gradient()).save(tmp_path / "a.dng", "TIFF", tiffinfo=tags)
    with pytest.raises(MediaError, match="camera RAW"):
        pictures.read_image(tmp_path / "a.dng")


def test_what_is_no_media_is_told_from_what_claims_to_be(tmp_path):
    for content in (
        b"",
        b"{}",
        b"some text " * 100,
        b"BM text",
        b"%PDF-1.7",
        b"PK\3\4",
        bytes(999),
    ):
        for name in ("a.txt", "a", "a.ts", "a.pdf"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(formats.NotMedia):
                media.identify(tmp_path / name)
        for name in ("a.JPG", "a.mp4", "a.heic"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(MediaError) as caught:
                media.identify(tmp_path / name)
            assert not isinstance(caught.value, formats.NotMedia)


def test_indices_are_the_middles_of_even_shares():
    assert videos.spread_indices(300, 3) == [50, 150, 250]
    assert videos.spread_indices(5, 32) == [0, 1, 2, 3, 4]
    assert videos.spread_indices(300, 32) == [int((i + 0.5) * 300 / 32) for i in range(32)]
    assert videos.spread_indices(7, 1) == [3]


def test_frames_are_spread_over_the_whole_video(tmp_path):
    path = counted_video(tmp_path / "a.mp4")
    frames = list(videos.read_frames(path, 6))
    assert [frame.index for frame in frames] == [7, 22, 37, 52, 67, 82]
    assert [told(frame.image) for frame in frames] == [7, 22, 37, 52, 67, 82]
    np.testing.assert_allclose([f.time for f in frames], [f.index / 30 for f in frames], atol=1e-3)
    assert [told(frame.image) for frame in videos.read_frames(path, 500)] == list(range(90))


def test_seeking_reads_the_same_frames_as_stepping(tmp_path):
    path = counted_video(tmp_path / "a.mp4")
    indices = [0, 5, 13, 40, 41, 77, 89]
    stepped = list(videos.read_frames_at(path, indices, seek_from=10**6))
    sought = list(videos.read_frames_at(path, indices, seek_from=0))
    assert [told(frame.image) for frame in stepped] == indices
    assert [told(frame.image) for frame in sought] == indices
    for a, b in zip(stepped, sought, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert (a.index, a.time) == (b.index, b.time)


@pytest.mark.parametrize("seek_from", [0, 10**6])
def test_a_frame_that_is_not_there_is_left_out_not_repeated(tmp_path, seek_from):
    path = counted_video(tmp_path / "a.mp4", frames=20)
    frames = list(videos.read_frames_at(path, [10, 30, 50], seek_from))
    assert [told(frame.image) for frame in frames] == [10]


@pytest.mark.parametrize("claim", [0, 10, 60, 100_000])
@pytest.mark.parametrize("long", [1, videos.LONG])
def test_a_header_with_a_wrong_count_is_not_believed(tmp_path, monkeypatch, claim, long):
    monkeypatch.setattr(videos, "LONG", long)  # a header of more frames is believed otherwise
    path = counted_video(tmp_path / "a.avi", frames=60, codec="MJPG")
    data = bytearray(path.read_bytes())
    stream = data.index(b"strh") + 8
    total = data.index(b"avih") + 8
    data[stream + 32 : stream + 36] = data[total + 16 : total + 20] = struct.pack("<I", claim)
    path.write_bytes(data)
    assert videos.video_info(path).frames == 60
    assert [told(frame.image) for frame in videos.read_frames(path, 3)] == [10, 30, 50]


def test_the_frames_of_a_long_video_are_not_read_to_be_counted(tmp_path, monkeypatch):
    path = counted_video(tmp_path / "a.mp4", frames=120)
    monkeypatch.setattr(videos, "LONG", 100)
    monkeypatch.setattr(videos, "_count", None)
    assert videos.video_info(path).frames == 120


def test_a_video_cut_short_gives_what_it_still_holds(tmp_path):
    path = counted_video(tmp_path / "a.avi", frames=60, codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    held = videos.video_info(path).frames
    assert 20 <= held <= 35
    frames = [told(frame.image) for frame in videos.read_frames(path, 4)]
    assert frames == videos.spread_indices(held, 4)


def test_a_bad_video_has_a_reason(tmp_path):
    whole = counted_video(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video " * 100)
    for name, reason in {
        "cut.mp4": "damaged",
        "empty.mp4": "empty file",
        "text.mp4": "not a photograph or video",
        "missing.mp4": "no such file",
    }.items():
        with pytest.raises(MediaError, match=reason):
            next(videos.read_frames(tmp_path / name, 4))


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


def test_stderr_is_there_again_afterwards(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.tif", compression="tiff_lzw")
    lines = (
        "import os, sys; from deepfidelity_jax.images import media, pictures\n"
        "print(pictures.read_image(sys.argv[1]).shape)\n"
        "os.write(2, b'heard')\n"
    )
    given = [sys.executable, "-c", lines, str(tmp_path / "a.tif")]
    done = subprocess.run(given, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(40, 64, 3)\n", "heard")
    # Begun without one.
    done = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *given], capture_output=True, text=True)
    assert done.stdout == "(40, 64, 3)\n"
