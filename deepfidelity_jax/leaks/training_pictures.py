"""Remember which pictures a detector was trained on, so that none of them is used to test it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.schema import SOURCES, Records, metadata_of, splits_of
from deepfidelity_jax.workdir import write_json

SEEN = "training_pictures.json"  # in the workdir


def remember(folder: Path, workdir: Path, init_from: str = "", *, begun: bool = False) -> None:
    """Add the pictures a detector will now be trained on to those it was trained on before.

    Args:
      folder: the folder of the records.
      workdir: where the digests are kept.
      init_from: where training starts from, `config.init_from`. If it is a workdir, its training
        pictures count as seen too.
      begun: whether the workdir holds weights. If not, pictures noted there earlier were never
        trained on.

    Raises:
      InputError: the test split has pictures that `init_from` was trained on.
    """
    before = seen_by(Path(init_from)) if init_from else {}
    if before:
        require_unseen(_digests_of_test(folder), before, folder)
    kept = seen_by(workdir) if begun else {}
    write_json(workdir / SEEN, kept | before | digests_of_training(folder))


def seen_by(workdir: Path) -> dict[str, str]:
    """The files and crops a detector was trained on, `{digest: path}`; empty if not known."""
    path = workdir / SEEN
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def digests_of_training(folder: Path) -> dict[str, str]:
    """The files and crops in the training and validation splits, `{SHA-256: path}`.

    Validation counts as training, as it chooses the checkpoint and the threshold.
    """
    files = metadata_of(folder).get("digests", {})
    counts, seen = splits_of(folder), {}
    for split in ("train", "validation", SOURCES):
        seen |= {digest: path for path, digest in files.get(split, {}).items()}
        if counts.get(split):
            seen |= digests_of(folder, split)
    return seen


def require_test_unseen(folder: Path, workdir: Path, allow: Sequence[str]) -> str:
    """Check that the detector in `workdir` was not trained on the test pictures in `folder`.

    Pictures in both the training and the test split of the same records have been reported by
    `shared_sources.require_none`; they pass if `allow` names them.

    Returns:
      A digest of the test faces.

    Raises:
      InputError: the detector was trained on some of the test pictures.
    """
    seen = seen_by(workdir) or digests_of_training(folder)
    if any(title.startswith("picture:") for title in allow):
        training = digests_of_training(folder)
        seen = {digest: path for digest, path in seen.items() if digest not in training}
    require_unseen(_digests_of_test(folder), seen, folder)
    return digest_of_faces(digests_of(folder, "test"))


def _digests_of_test(folder: Path) -> dict[str, str]:
    """The files and crops of the test split, `{digest: path}`."""
    files = metadata_of(folder).get("digests", {}).get("test", {})
    return {digest: path for path, digest in files.items()} | digests_of(folder, "test")


def digest_of_faces(crops: Iterable[str]) -> str:
    """One digest for many faces, independent of the order of their digests."""
    return sha256("".join(sorted(crops)).encode()).hexdigest()


def digests_of(folder: Path, split: str) -> dict[str, str]:
    """The crops of a split, `{SHA-256: path of the source}`."""
    rows = Records(folder, split)
    return {sha256(row["image"]).hexdigest(): row["path"] for row in rows}


def require_unseen(test: Mapping[str, str], seen: Mapping[str, str], folder: Path) -> None:
    """Check the test pictures in `folder` against the training pictures, both `{digest: path}`.

    Raises:
      InputError: some are in both.
    """
    known = sorted({test[digest]: seen[digest] for digest in test.keys() & seen.keys()}.items())
    if known:
        named = ", ".join(
            path if path == there else f"{path} ({there})" for path, there in known[:5]
        )
        more = f" and {len(known) - 5} more" if len(known) > 5 else ""
        raise InputError(
            f"{folder} holds {len(known)} of the pictures this detector was trained or calibrated "
            f"on: {named}{more}; take them out, their scores would prove nothing"
        )
