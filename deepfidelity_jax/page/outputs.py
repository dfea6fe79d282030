"""What a command writes besides its output lines: a page for each input, the annotated video."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from deepfidelity_jax.detector.finding import Input, stamp
from deepfidelity_jax.detector.predict import Examination, Prediction
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import require_writable
from deepfidelity_jax.images import formats, media

LONGEST = 200  # bytes of a name, which leaves room for what `written_whole` adds
BEGINNING = 2000  # bytes at the start of a page that contain its mark


class Outputs:
    """Writes the page of an input, and its annotated video.

    Args:
      inputs: the files.
      report: the value of --report: a file that ends in .html, for one input; a folder; or None.
      annotate: the value of --annotate, for one video; or None.

    Attributes:
      tell: called with what is being done.
      notes: what an output lacks, or why it was not written.
      failed: whether an output was not written.

    Raises:
      InputError: an output cannot be written, or is one file for several inputs.
    """

    def __init__(self, inputs: Sequence[Input], report: str | None, annotate: str | None):
        paths = [each.path for each in inputs]
        self.pages = {} if report is None else place_pages(report, paths)
        self.annotated = None if annotate is None else Path(annotate)
        self.tell: Callable[[str], None] = lambda text: None
        self.notes: list[str] = []
        self.failed = False
        if annotate is not None:
            _check_annotated(annotate, paths)

    def write_each(
        self, detector, inputs: Sequence[Input], examinations: Iterable[Examination | None]
    ) -> Iterator[Prediction | None]:
        """Yield the predictions of examined inputs, after writing the page and video of each."""
        for given, examination in zip(inputs, examinations, strict=True):
            if examination is not None:
                self._write(detector, given.path, examination)
            yield examination and examination.prediction

    def _write(self, detector, path: Path, examination: Examination) -> None:
        from deepfidelity_jax.page import annotate, page

        def report(step: str, share: float) -> None:
            self.tell(f"{step}, {share:.0%}" if share else step)

        def write_page(output: Path) -> str:
            page.write_examined(detector, path, examination, output, report)
            return ""

        def write_video(output: Path) -> str:
            if examination.prediction.status == "unreadable":
                raise formats.MediaError(examination.prediction.note)
            return annotate.annotate(path, examination, output, report)

        if path in self.pages:
            self._try(write_page, self.pages[path])
        if self.annotated:
            self._try(write_video, self.annotated)

    def _try(self, write: Callable[[Path], str], output: Path) -> None:
        """Write an output, and note what it lacks, or why its input cannot be read."""
        try:
            lacks = write(output)
        except formats.MediaError as error:
            output.unlink(missing_ok=True)  # of an earlier command: it would pass for a new one
            self.failed, lacks = True, f"not written: {error}"
        self.notes += [f"{output}: {lacks}"] if lacks else []

    def are_there(self, detector, path: Path) -> bool:
        """Whether the page of an input is up to date, and no annotated video is asked for."""
        page = self.pages.get(path)
        return not self.annotated and (page is None or is_current(page, path, detector))


def place_pages(given: str, paths: Sequence[Path]) -> dict[Path, Path]:
    """Where the page of each input goes: one file, or unique names in a folder."""
    if given.lower().endswith((".html", ".htm")) and not Path(given).is_dir():
        if len(paths) != 1:
            raise InputError(
                f"--report={given} is one page, but --input has {len(paths)} files: give a folder"
            )
        require_writable(given, "--report")
        return {paths[0]: Path(given)}
    folder = Path(given)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--report={given} is neither a folder nor a page: end it in .html")
    require_writable(folder / "page.html", "--report")
    shared = Counter(path.name.casefold() for path in paths)
    return {path: folder / _name(path, shared[path.name.casefold()] > 1) for path in paths}


def _name(path: Path, shared: bool) -> str:
    """`clip.mp4.html`; with a digest of the path if inputs share a name or the name is too long."""
    name = path.name.encode("utf-8", "surrogateescape")
    if shared or len(name) > LONGEST:
        digest = sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:10]
        name = name[: LONGEST - 11].decode("utf-8", "ignore").encode() + f"-{digest}".encode()
    return name.decode("utf-8", "surrogateescape") + ".html"


def mark(fingerprint: str, about: dict) -> str:
    """The mark in a page, which is valid for this detector, size and time of the file."""
    return f"{fingerprint} {about['bytes']} {about['modified']}"


def is_current(page: Path, path: Path, detector) -> bool:
    """Whether a page exists for the current content of this file and this detector."""
    try:
        with page.open("rb") as file:
            beginning = file.read(BEGINNING).decode("utf-8", "replace")
    except OSError:
        return False
    return mark(detector.fingerprint, stamp(path)) in beginning


def _check_annotated(given: str, paths: Sequence[Path]) -> None:
    if not given.lower().endswith(".mp4"):
        raise InputError(f"--annotate={given}: give a name that ends in .mp4")
    if len(paths) != 1:
        raise InputError(f"--annotate takes one video, but --input has {len(paths)} files")
    try:
        moving = media.identify(paths[0]) == "video"
    except (formats.MediaError, OSError) as error:
        raise InputError(f"--annotate: {paths[0]} cannot be read: {error}") from None
    if not moving:
        raise InputError(f"--annotate takes a video, and {paths[0]} is a photograph")
    require_writable(given, "--annotate")
    if Path(given).exists() and Path(given).samefile(paths[0]):
        raise InputError(f"--annotate={given} is the input itself: give another name")
