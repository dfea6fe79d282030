"""A file from a multipart form, streamed to disk and refused as soon as it is too large."""

import asyncio
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from deepfidelity_jax.images import formats
from deepfidelity_jax.server.messages import MIB, Limits
from deepfidelity_jax.server.refusal import Refused

FIELD = "file"
FRAMING = 64 * 1024  # bytes that a form may have besides its file
LONGEST_NAME = 200  # bytes


async def receive(request: Request, folder: Path, limits: Limits) -> Path:
    """Write the file of a request into a folder, under a safe version of its name.

    Raises:
      Refused: the file is too large or too slow, the form is wrong, or the file is not a photograph
        or video. The caller removes what was written, and handles an OSError.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        message = f"post a form (multipart/form-data) with the file in the field {FIELD!r}"
        raise Refused(415, "not_multipart", message, unread=True)
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limits.bytes + FRAMING:
        raise _too_large(limits.bytes)
    try:
        with _Form(options[b"boundary"], folder, limits.bytes) as form:
            async with asyncio.timeout(limits.upload_seconds):
                async for chunk in request.stream():
                    await run_in_threadpool(form.write, chunk)
            path = form.end()
    except TimeoutError:
        message = f"the upload took longer than {limits.upload_seconds} seconds"
        raise Refused(408, "upload_too_slow", message, limits.upload_seconds, unread=True) from None
    except FormParserError as error:
        raise Refused(422, "bad_form", f"the form is damaged: {error}", unread=True) from None
    except ClientDisconnect:
        raise Refused(400, "upload_cut_off", "the upload was cut off") from None
    await run_in_threadpool(_require_media, path)
    return path


def safe_name(given: str) -> str:
    """The last part of an untrusted path, safe to use as a file name here.

    Unprintable characters are left out: control characters, and marks that change the direction of
    text.
    """
    name = given.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(letter for letter in name if letter.isprintable()).strip()
    if not name.strip("."):
        return "file"
    suffix = Path(name).suffix.encode()[:20]
    stem = Path(name).stem.encode()[: LONGEST_NAME - len(suffix)]
    return (stem + suffix).decode(errors="ignore")


class _Form:
    """The one file of a form that arrives in pieces; a context manager that closes it."""

    def __init__(self, boundary: bytes, folder: Path, most: int):
        self._folder, self._most = folder, most
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._writes = self._whole = False
        self._received = self._size = 0
        self._header, self._value = b"", b""
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._read_header,
                "on_header_value": self._read_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_data,
                "on_part_data": self._write_data,
                "on_end": self._end,
            },
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._file is not None:
            self._file.close()

    def write(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        self._received += len(piece)
        self._parser.write(piece)
        if self._received - self._size > FRAMING:
            message = f"the form has more than {FRAMING // 1024} KiB besides its file"
            raise Refused(422, "bad_form", message, unread=True)

    def end(self) -> Path:
        """The path of the file, once the whole body has arrived."""
        if not self._whole:
            raise Refused(422, "bad_form", "the form is incomplete: its end is missing")
        if self._path is None:
            raise Refused(422, "bad_form", f"the form has no file in a field {FIELD!r}")
        self._file.close()  # writes what is still in memory
        return self._path

    def _begin_part(self):
        self._disposition, self._writes = b"", False

    def _read_header(self, data, start, end):
        self._header += data[start:end]

    def _read_value(self, data, start, end):
        self._value += data[start:end]

    def _end_header(self):
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _begin_data(self):
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD.encode() or b"filename" not in options:
            return
        if self._path is not None:
            raise Refused(422, "bad_form", "the form has several files: post one", unread=True)
        self._path = self._folder / safe_name(options[b"filename"].decode(errors="replace"))
        self._file, self._writes = self._path.open("xb"), True

    def _write_data(self, data, start, end):
        if not self._writes:
            return
        self._size += end - start
        if self._size > self._most:
            raise _too_large(self._most)
        self._file.write(data[start:end])

    def _end(self):
        self._whole = True


def _require_media(path: Path) -> None:
    """Refused unless the first bytes are those of a photograph or a video."""
    try:
        with formats.open_file(path) as file:
            formats.format_of(file, path)
    except formats.MediaError as error:
        raise Refused(415, "not_media", f"this cannot be scored: {error}") from None


def _too_large(most: int) -> Refused:
    message = f"the file has more than {most // MIB} MiB"
    return Refused(413, "too_large", message, most, unread=True)
