"""Content Credentials are read from signed files, checked against them, and never trusted."""

import importlib.util
import io
import shutil
import subprocess

import pytest
from PIL import Image

from deepfidelity_jax.page import credentials
from deepfidelity_jax.page.credentials import read_credentials

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("c2pa") is None or shutil.which("openssl") is None,
    reason="c2pa-python or openssl is not installed",
)
EXTENSIONS = """
[req]
distinguished_name=name
prompt=no
[name]
O=Test
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign
subjectKeyIdentifier=hash
[leaf]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=emailProtection
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""
MANIFEST = {
    "claim_generator_info": [{"name": "test maker", "version": "1"}],
    "title": "A <b>picture</b>",
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/"
                        "trainedAlgorithmicMedia",
                    }
                ]
            },
        }
    ],
}


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A picture signed by a certificate that was just made."""
    import c2pa

    place = tmp_path_factory.mktemp("signed")
    (place / "c.cnf").write_text(EXTENSIONS)

    def openssl(command):
        subprocess.run(["openssl", *command.split()], cwd=place, check=True, capture_output=True)

    openssl("ecparam -name prime256v1 -genkey -noout -out ca.key")
    openssl(
        "req -x509 -new -key ca.key -config c.cnf -extensions ca -subj /CN=CA/O=Test -out ca.pem"
    )
    openssl("ecparam -name prime256v1 -genkey -noout -out raw.key")
    openssl("pkcs8 -topk8 -nocrypt -in raw.key -out leaf.key")
    openssl("req -new -key leaf.key -config c.cnf -subj /CN=Signer/O=Test -out leaf.csr")
    openssl(
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile c.cnf "
        "-extensions leaf -out leaf.pem"
    )
    chain = (place / "leaf.pem").read_bytes() + (place / "ca.pem").read_bytes()
    info = c2pa.C2paSignerInfo(b"es256", chain, (place / "leaf.key").read_bytes(), None)
    picture, found = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "JPEG")
    picture.seek(0)
    with c2pa.Builder(MANIFEST) as builder:
        builder.sign(c2pa.Signer.from_info(info), "image/jpeg", picture, found)
    (place / "signed.jpg").write_bytes(found.getvalue())
    return place / "signed.jpg"


@needs_library
def test_what_a_signed_file_claims(signed):
    found = read_credentials(signed)
    assert "has not been changed since" in found.note
    assert "not checked against a list" in found.note
    assert dict(found.claims) == {
        "Signed by": "Test",
        "Made with": "test maker 1",
        "Title": "A <b>picture</b>",
        "Action": "c2pa.created, made by a generative model (trainedAlgorithmicMedia)",
    }


@needs_library
def test_a_file_that_was_changed_afterwards_is_told(signed, tmp_path):
    content = bytearray(signed.read_bytes())
    content[-30] ^= 0xFF
    (tmp_path / "a.jpg").write_bytes(content)
    found = read_credentials(tmp_path / "a.jpg")
    assert "do not rely" in found.note
    assert "mismatch" in found.note


@needs_library
def test_files_without_them(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert read_credentials(tmp_path / "a.png") == (credentials.NONE, [])
    Image.new("RGB", (64, 64)).save(tmp_path / "a.bmp")
    assert "cannot carry" in read_credentials(tmp_path / "a.bmp").note
    (tmp_path / "a.jpg").write_text("text")
    for path in (tmp_path / "a.jpg", tmp_path / "none.jpg"):
        assert "could not be looked for" in read_credentials(path).note


def test_without_the_library_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = read_credentials(tmp_path / "a.jpg")
    assert "not looked for" in found.note
    assert found.claims == []
