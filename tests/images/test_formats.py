"""A file is what its first bytes say, and what cannot be read says why."""

import pytest
from PIL import Image, TiffImagePlugin
from samples import gradient

from deepfidelity_jax.images import formats, media, pictures
from deepfidelity_jax.images.formats import MediaError, recognise


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
    tags[pictures.DNG_VERSION] = b"\1\4\0\0"
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


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe1", "JPEG"),
        (b"\xff\xd8 text", ""),
        (b"MM\0*", "TIFF"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera RAW"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio"),
        (b"XXXX\0\0\0\0WEBPVP8 ", ""),
        (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "MP4"),
        (b"\0\0\0\x14ftypM4A \0\0\0\0mp42", "audio"),
        (b"\0\0\0\x18ftypM4V \0\0\0\0M4V M4A ", "MP4"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0miaf", "HEIF"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0avif", "AVIF"),
        (b"\0\0\0\x10ftypmif1\0\0\0\0avif", "HEIF"),  # beyond the box: no brand of it
        (b"\0\0\0\x08wide\0\0\0\0mdat", "MP4"),
        (b"P6\n", "PPM"),
        (b"P8\n", ""),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "BMP"),
        (b"BM" + bytes(12) + b"\x0b\0\0\0", ""),
        ((b"G" + bytes(187)) * 4, "MPEG"),
        ((bytes(4) + b"G" + bytes(187)) * 4, "MPEG"),
        ((b"G" + bytes(187)) * 3, ""),
        (bytes(257) + b"ustar", "archive"),
        (b"\xef\xbb\xbf\n<svg>", "SVG"),
        (b"see <svg>", ""),
        (b"", ""),
    ],
)
def test_first_bytes_tell_the_format(head, kind):
    assert recognise(head) == kind


def test_a_file_is_rewound_after_its_format_was_told(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    with formats.open_file(tmp_path / "a.png") as file:
        assert formats.format_of(file) == "PNG"
        assert file.tell() == 0
        assert pictures.read_image(file).shape == (40, 64, 3)
