"""The browser example gives Python's score, in a real browser and with nothing from outside."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading

import numpy as np
import pytest
from conftest import TREE
from PIL import Image

import deepfidelity_jax as df
from deepfidelity_jax.cli import main
from deepfidelity_jax.export import write

EXAMPLE = TREE / "examples" / "browser"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# Puts a picture into the page's own input, and sends what the page then says.
HARNESS = """<!doctype html><iframe src="index.html"></iframe><script>
const frame = document.querySelector("iframe");
const wait = (done) => new Promise((resolve) => {
  const timer = setInterval(() => { if (done()) { clearInterval(timer); resolve(); } }, 50);
});
frame.onload = async () => {
  const page = frame.contentDocument, output = page.querySelector("output");
  await wait(() => output.textContent === "Ready.");
  const files = new frame.contentWindow.DataTransfer();
  files.items.add(new File([await (await fetch("crop.png")).blob()], "crop.png"));
  page.querySelector("input").files = files.files;
  page.querySelector("input").dispatchEvent(new Event("change"));
  await wait(() => output.textContent !== "Ready.");
  await fetch("said", { method: "POST", body: JSON.stringify(
    { text: output.textContent, ...output.dataset }) });
};
</script>"""


class Page(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and keeps what is posted."""

    def do_POST(self):
        self.server.said.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.answered.set()

    def log_message(self, *_):
        pass


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.skipif(
    not (EXAMPLE / "node_modules" / "onnxruntime-web").is_dir(),
    reason="onnxruntime-web is not here: npm install in examples/browser",
)
def test_the_browser_gives_pythons_score(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for name in ("index.html", "score.js", "node_modules"):
        (site / name).symlink_to(EXAMPLE / name)
    (site / "harness.html").write_text(HARNESS)
    assert main(["run.py", "--mode=export", f"--output={site / 'model.onnx'}"]) == 0
    crop = write.draw_crops(1, 108)
    Image.fromarray(crop[0]).save(site / "crop.png")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Page, directory=site)
    )
    server.answered, server.said = threading.Event(), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    argv = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0",
        f"http://127.0.0.1:{server.server_port}/harness.html",
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = subprocess.Popen(argv, env=os.environ | {"TMPDIR": str(tmp_path)}, **quiet)
    try:
        assert server.answered.wait(timeout=120)
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()
    said = json.loads(server.said[-1])
    detector = df.load()
    fidelity = detector.fidelity(crop)
    np.testing.assert_allclose(float(said["fidelity"]), fidelity[0], atol=1e-4)
    np.testing.assert_allclose(float(said["pFake"]), detector.p_fake(fidelity)[0], atol=1e-4)
    verdict = str(detector.fidelity_model.calibration.verdicts(float(fidelity[0])))
    assert said["text"].startswith(f"{verdict}: fidelity {fidelity[0]:.4f}")
