"""Notebooks as a hosted session runs them, and what they show."""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

COLABS = Path(__file__).parents[2] / "colabs"


def execute(name, read_back, tmp_path, monkeypatch, **parameters):
    """Run a notebook in a fresh kernel and an empty folder: the notebook, what was read back.

    The parameters are those of its form; `read_back` runs last and prints JSON.
    """
    for variable in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        (tmp_path / variable).mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    notebook = nbformat.read(COLABS / name, as_version=4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    for field, value in parameters.items():
        cell.source, count = re.subn(rf"(?m)^{field} = .*", f"{field} = {value!r}", cell.source)
        assert count == 1, field
    notebook.cells.append(nbformat.v4.new_code_cell(read_back))
    resources = {"metadata": {"path": str(tmp_path / "elsewhere")}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = notebook.cells.pop().outputs  # what is printed may come in several pieces
    assert not list((tmp_path / "elsewhere").iterdir()), "nothing is left where it was run"
    printed = "".join(out.text for out in outputs if out.get("name") == "stdout")
    return notebook, json.loads(printed)


def text_of(notebook):
    """All that was printed or displayed as text."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    texts = [out.get("text", "") for out in outputs]
    return "\n".join(texts + [out.get("data", {}).get("text/markdown", "") for out in outputs])


def pictures_of(notebook):
    """All figures, as arrays."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    coded = [
        out.get("data", {}).get(kind) for out in outputs for kind in ("image/png", "image/jpeg")
    ]
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB"))
        for one in coded
        if one
    ]
