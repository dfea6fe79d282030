"""What Content Credentials (C2PA) in a file claim, if the library c2pa-python is installed.

They are claims, signed by the one who makes them, and do not change any score. Nothing is fetched
from a network, and certificates are not checked against a trust list: anyone can sign.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

from deepfidelity_jax.images import formats

MOST = 20  # claims of one kind that are shown
OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": False}}
# Formats that can carry Content Credentials.
MIME = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff",
    "GIF": "image/gif", "AVIF": "image/avif", "HEIF": "image/heif", "MP4": "video/mp4",
    "AVI": "video/avi",
}  # fmt: skip
# What the less obvious of the IPTC's digital source types mean.
SOURCES = {
    "trainedAlgorithmicMedia": "made by a generative model",
    "compositeWithTrainedAlgorithmicMedia": "made in part by a generative model",
    "digitalCapture": "taken by a camera",
}
NONE = "The file carries no Content Credentials. Most files carry none, so this says nothing."


class Credentials(NamedTuple):
    """What was found: a summary in one sentence, and pairs of a name and a claim."""

    note: str
    claims: list[tuple[str, str]]


def read_credentials(path: Path) -> Credentials:
    """What the file claims about its own origin, or why that is not known."""
    if importlib.util.find_spec("c2pa") is None:
        return Credentials(
            "Content Credentials (C2PA) were not looked for: the library is not installed "
            "(pip install 'deepfidelity_jax[c2pa]').",
            [],
        )
    try:
        with formats.open_file(path) as file:
            kind = MIME.get(formats.format_of(file, path))
            if kind is None:
                return Credentials("This format cannot carry Content Credentials.", [])
            file.seek(0)
            store = _read(file, kind)
    except (formats.MediaError, OSError) as error:
        return Credentials(f"Content Credentials could not be looked for: {error}.", [])
    except Exception as error:  # a damaged manifest can raise anything in the library
        return Credentials(f"There are Content Credentials, but they cannot be read: {error}.", [])
    return Credentials(NONE, []) if store is None else _summarise(store)


def _read(file, kind: str) -> dict[str, Any] | None:
    import c2pa

    with c2pa.Context.from_dict(OFFLINE) as context:
        reader = c2pa.Reader.try_create(kind, file, context=context)
        if reader is None:
            return None
        with reader:
            return json.loads(reader.json())


def _summarise(store: dict[str, Any]) -> Credentials:
    manifest = store.get("manifests", {}).get(store.get("active_manifest"), {})
    intact = store.get("validation_state") in ("Valid", "Trusted")
    if intact:
        note = (
            "The file has Content Credentials, and has not been changed since it was signed. "
            "Who signed was not checked against a list of trusted certificates."
        )
    else:
        codes = [str(each.get("code")) for each in store.get("validation_status") or []]
        note = (
            "The file has Content Credentials that do not match it: do not rely on the following "
            f"({', '.join(codes[:MOST]) or 'no reason given'})."
        )
    signature = manifest.get("signature_info") or {}
    makers = [
        f"{maker.get('name', '')} {maker.get('version', '')}".strip()
        for maker in manifest.get("claim_generator_info") or []
    ]
    claims = [
        ("Signed by", signature.get("issuer") or signature.get("common_name")),
        ("Signed at", signature.get("time")),
        ("Made with", ", ".join(makers) or manifest.get("claim_generator")),
        ("Title", manifest.get("title")),
    ]
    for assertion in manifest.get("assertions") or []:
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            actions = (assertion.get("data") or {}).get("actions") or []
            claims += [("Action", _describe_action(action)) for action in actions[:MOST]]
    ingredients = manifest.get("ingredients") or []
    claims += [("Made from", each.get("title")) for each in ingredients[:MOST]]
    return Credentials(note, [(name, str(value)) for name, value in claims if value])


def _describe_action(action: dict[str, Any]) -> str:
    kind = str(action.get("digitalSourceType", "")).rpartition("/")[2]
    source = f"{SOURCES[kind]} ({kind})" if kind in SOURCES else kind
    parts = (action.get("action"), source, action.get("when"), action.get("description"))
    return ", ".join(str(part) for part in parts if part)
