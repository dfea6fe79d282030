"""A notebook is run as a hosted one is: all of it, in a fresh kernel and an empty folder."""

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient
from notebooks import COLABS


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a notebook in a fresh kernel and an empty folder: the notebook, what was read back."""
    for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")

    def execute(name, read_back, **parameters):
        notebook = nbformat.read(COLABS / name, as_version=4)
        (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
        for field, value in parameters.items():
            cell.source, count = re.subn(rf"(?m)^{field} = .*", f"{field} = {value!r}", cell.source)
            assert count == 1, field
        notebook.cells.append(nbformat.v4.new_code_cell(read_back))
        resources = {"metadata": {"path": str(tmp_path / "elsewhere")}}
        NotebookClient(notebook, timeout=600, resources=resources).execute()
        (output,) = notebook.cells.pop().outputs
        assert not list((tmp_path / "elsewhere").iterdir()), "nothing is left where it was run"
        return notebook, json.loads(output.text)

    return execute
