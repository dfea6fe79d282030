"""Notebooks, and what they show."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

COLABS = Path(__file__).parents[2] / "colabs"


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
