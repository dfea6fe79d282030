"""Score face crops with an exported detector: python score_crops.py model.onnx CROP ...

Needs onnxruntime, numpy and pillow. A crop is a square picture of a face, cut as model.onnx.json
says; one of another size is resized.
"""

import json
import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports to its maker otherwise

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, *paths = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
about = session.get_modelmeta().custom_metadata_map
size = session.get_inputs()[0].shape[1]
threshold, fake_below = float(about["threshold"]), json.loads(about["fake_below"])

for path in paths:
    crop = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    crop = Image.alpha_composite(Image.new("RGBA", crop.size, "white"), crop).convert("RGB")
    if crop.size != (size, size):
        crop = crop.resize((size, size), Image.Resampling.BICUBIC)
    outputs = session.run(["fidelity", "p_fake"], {"crops": np.asarray(crop)[None]})
    fidelity, p_fake = (float(output[0]) for output in outputs)
    if fidelity >= threshold:
        verdict = "real"
    else:
        limit = threshold if fake_below is None else fake_below
        verdict = "fake" if fidelity < limit else "uncertain"
    print(json.dumps({"crop": path, "verdict": verdict, "fidelity": fidelity, "p_fake": p_fake}))
