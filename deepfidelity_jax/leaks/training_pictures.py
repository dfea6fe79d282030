"""Digests of the pictures a detector was trained on, so that none is scored as unseen."""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.schema import SOURCES, Records, metadata_of, splits_of
from deepfidelity_jax.workdir import Stages, fingerprint, write_json

SEEN = "training_pictures.json"  # in the workdir


def remember(folder: Path, workdir: Path, init_from: str = "") -> None:
    """Keep the digests of what a detector is about to be trained on, beside those it was before.

    `init_from`: where its weights come from, a workdir with such digests or anything else.
    InputError where test pictures are among them.
    """
    stages, inputs = Stages(workdir), fingerprint(folder.parent.name, folder.name, init_from)
    path = workdir / SEEN
    if stages.done("seen", inputs, path):
        return
    before = seen_by(Path(init_from)) if init_from else {}
    if before:
        require_unseen(_digests_of_test(folder), before, folder)
    write_json(path, seen_by(workdir) | before | digests_of_training(folder))
    stages.finish("seen", inputs)


def seen_by(workdir: Path) -> dict[str, str]:
    """The files and crops a detector was trained on, as digest to path; none where not kept."""
    path = workdir / SEEN
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def digests_of_training(folder: Path) -> dict[str, str]:
    """The files and the crops in `folder` that chose anything of a detector: digest to path.

    Those of the training and validation splits, by SHA-256 of their bytes.
    """
    files = metadata_of(folder).get("digests", {})
    counts, seen = splits_of(folder), {}
    for split in ("train", "validation", SOURCES):
        seen |= {digest: path for path, digest in files.get(split, {}).items()}
        if counts.get(split):
            seen |= digests_of(folder, split)
    return seen


def require_test_unseen(folder: Path, workdir: Path, allow: Sequence[str]) -> str:
    """Check the test split of the records in `folder` against what the detector was trained on.

    Pictures that these records themselves have in training as well are `require_none`'s affair
    where `allow` names them.

    Returns:
      A digest of the test faces.

    Raises:
      InputError: some of the test pictures were pictures of training.
    """
    seen = seen_by(workdir) or digests_of_training(folder)
    if any(title.startswith("picture:") for title in allow):
        own = digests_of_training(folder)
        seen = {digest: path for digest, path in seen.items() if digest not in own}
    require_unseen(_digests_of_test(folder), seen, folder)
    return digest_of_faces(digests_of(folder, "test"))


def _digests_of_test(folder: Path) -> dict[str, str]:
    """The files and the crops of the test split, digest to path."""
    files = metadata_of(folder).get("digests", {}).get("test", {})
    return {digest: path for path, digest in files.items()} | digests_of(folder, "test")


def digest_of_faces(crops: Iterable[str]) -> str:
    """One digest of many faces, by theirs, whatever their order."""
    return sha256("".join(sorted(crops)).encode()).hexdigest()


def digests_of(folder: Path, split: str) -> dict[str, str]:
    """SHA-256 of each crop of a split, and the path it comes from."""
    rows = Records(folder, split)
    return {
        sha256(row["image"]).hexdigest(): row["path"]
        for row in map(rows.__getitem__, range(len(rows)))
    }


def require_unseen(test: Mapping[str, str], seen: Mapping[str, str], folder: Path) -> None:
    """Check the pictures of `folder` against those of training, both as digest to path.

    Raises:
      InputError: some were seen in training.
    """
    known = sorted({test[digest]: seen[digest] for digest in test.keys() & seen.keys()}.items())
    if known:
        named = ", ".join(
            path if path == there else f"{path} ({there})" for path, there in known[:5]
        )
        more = f" and {len(known) - 5} more" if len(known) > 5 else ""
        raise InputError(
            f"{folder} holds {len(known)} of the pictures this detector was trained or calibrated "
            f"on: {named}{more}; take them out, they prove nothing"
        )
