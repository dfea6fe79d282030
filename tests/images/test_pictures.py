"""Photographs are read alike whatever their format; crops are encoded once."""

import struct
import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from samples import gradient, png

from deepfidelity_jax.forgeries import augment, degrade
from deepfidelity_jax.forgeries.families import treatments
from deepfidelity_jax.images import pictures
from deepfidelity_jax.images.formats import MediaError


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


def test_orientation_is_applied_though_another_tag_cannot_be_written_again(tmp_path):
    # XResolution is to be a rational; here it is text.
    tags = ((0x0112, 3, 1, b"\0\6\0\0"), (0x011A, 2, 3, b"72\0\0"))
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(tags))
    exif += b"".join(struct.pack(">HHI4s", *tag) for tag in tags) + bytes(4)
    path = tmp_path / "a.png"
    Image.fromarray(np.rot90(gradient())).save(path, exif=exif)
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


def test_a_colour_profile_is_applied(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")
    path, alpha = tmp_path / "a.png", np.full((40, 64, 1), 255, np.uint8)
    stored = gradient()[..., [1, 0, 2]]
    for image in (stored, np.concatenate([stored, alpha], 2)):
        Image.fromarray(image).save(path, icc_profile=swapped)
        np.testing.assert_allclose(pictures.read_image(path).astype(int), gradient(), atol=2)
    Image.fromarray(gradient()).quantize(4).save(path, icc_profile=swapped)
    palette = pictures.read_image(path)
    np.testing.assert_allclose(palette, np.asarray(Image.open(path).convert("RGB"))[..., [1, 0, 2]])


def test_pixels_stay_where_a_profile_says_nothing_else(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = Image.fromarray(gradient()).convert("L")
    for image in (Image.fromarray(gradient()), grey):
        for profile in (srgb, srgb[:200], b"none"):
            image.save(tmp_path / "a.png", icc_profile=profile)
            expected = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(pictures.read_image(tmp_path / "a.png"), expected)


def test_sixteen_bits_keep_the_high_byte(tmp_path):
    deep = np.linspace(0, 65535, 40 * 64).reshape(40, 64).astype(np.uint16)
    expected = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, 2)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(pictures.read_image(tmp_path / name), expected)
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in deep)
    (tmp_path / "rgb48.png").write_bytes(png(64, 40, 16, 2, rows))
    np.testing.assert_array_equal(pictures.read_image(tmp_path / "rgb48.png"), expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_grey_that_does_not_fill_its_type_is_not_dark(tmp_path, bits, kind):
    deep = np.linspace(0, (1 << bits) - 1, 40 * 64).reshape(40, 64).astype(kind)
    Image.fromarray(deep).save(tmp_path / "a.tif")
    expected = np.repeat((deep >> bits - 8).astype(np.uint8)[..., None], 3, 2)
    np.testing.assert_array_equal(pictures.read_image(tmp_path / "a.tif"), expected)
    if kind is np.uint16:  # the type of a PNG says how deep it is, unless it holds bytes
        Image.fromarray(deep).save(tmp_path / "a.png")
        shift = 0 if bits == 8 else 8
        image = pictures.read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(image[..., 0], deep >> shift)


def test_deep_grey_takes_no_more_memory_than_colour(tmp_path):
    deep = np.linspace(0, 65535, 1000 * 1000).reshape(1000, 1000).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png", compress_level=1)
    tracemalloc.start()
    try:
        image = pictures.read_image(tmp_path / "a.png")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(image[..., 1], deep >> 8)
    assert peak < 8 * deep.size


def test_a_picture_that_needs_more_memory_than_there_is_says_so(tmp_path, monkeypatch):
    """Wherever it runs out: here while colours are joined to white."""

    def fail(*pictures):
        raise MemoryError

    Image.fromarray(gradient()).convert("RGBA").save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "alpha_composite", fail)
    with pytest.raises(MediaError, match="64x40 pixels, too many for the memory here"):
        pictures.read_image(tmp_path / "a.png")


def test_pages_that_are_not_read_are_noted(tmp_path):
    pages = [Image.fromarray(np.roll(gradient(), 9 * n, 1)) for n in range(3)]
    for compression in ("raw", "tiff_lzw"):
        path, notes = tmp_path / f"{compression}.tif", []
        pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression)
        np.testing.assert_array_equal(pictures.read_image(path, notes), gradient())
        assert notes == ["the first of 3 pages"]
    pages[0].save(tmp_path / "one.tif")
    pictures.read_image(tmp_path / "one.tif", notes := [])
    assert notes == []


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


@pytest.mark.parametrize(
    "recompress",
    [
        lambda image: pictures.recompress(image, 50),
        lambda image: degrade.jpeg(image, 0.3),
        lambda image: augment.recompress(image, np.random.default_rng(0), (50, 50)),
        lambda image: treatments.compress(image, np.random.default_rng(0)),
    ],
    ids=["media", "degrade", "augment", "treatments"],
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


def test_recompression_halves_the_colour():
    """4:2:0: two pixels of luminance a pixel of colour, both ways."""
    encoded = pictures.encode_image(gradient(), 80, halved=True)
    frame = encoded.index(b"\xff\xc0")
    assert [encoded[frame + at] for at in (11, 14, 17)] == [0x22, 0x11, 0x11]
    np.testing.assert_array_equal(
        pictures.recompress(gradient(), 80), pictures.decode_image(encoded)
    )


def test_pixels_without_a_colour_are_refused(tmp_path):
    for mode, reason in (("F", "floating-point"), ("I", "more than 16 bits")):
        value = 70_000
        Image.new(mode, (32, 32), value).save(tmp_path / "a.tif")
        with pytest.raises(MediaError, match=reason):
            pictures.read_image(tmp_path / "a.tif")


def test_pillow_is_left_as_it_was():
    bound, seen = Image.MAX_IMAGE_PIXELS, []

    def fail():
        with pictures.safe_pillow():
            seen.append(Image.MAX_IMAGE_PIXELS)
            raise RuntimeError

    for _ in range(2):  # its lock is free again, too
        with pytest.raises(RuntimeError):
            fail()
    assert bound not in seen
    assert bound == Image.MAX_IMAGE_PIXELS
