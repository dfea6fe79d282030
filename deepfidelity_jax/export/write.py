"""Mode export: check the output, write it, and compare its scores with the detector's."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepfidelity_jax.detector import bundled
from deepfidelity_jax.detector.load import Detector, load, load_fitted
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.export import hub, metadata, stablehlo
from deepfidelity_jax.export.program import OUTPUTS
from deepfidelity_jax.files import require_writable, written_whole
from deepfidelity_jax.progress import say
from deepfidelity_jax.workdir import write_json

CROPS = 8  # crops on which an exported file is tested
# A difference that no rounding explains, not even bfloat16's; relative to an output's largest value
# if that is more than 1.
FAR = 0.05


def export(workdir: str | None, output: str) -> None:
    """Export the detector in `workdir`, by default the bundled one.

    `output` ends in .onnx or .stablehlo, or names a folder. FILE.json beside a file has the result
    of `metadata.describe`.

    Raises:
      InputError: the output is none of these or cannot be written, or there is no regressor.
    """
    form = require_output(output)
    source = bundled.folder() if workdir is None else Path(workdir)
    detector = load_fitted(workdir)
    licence = bundled.LICENCE if workdir is None else ""
    if form == "folder":
        with hub.put_whole(Path(output)) as folder:
            hub.write_folder(source, folder, detector.config.data.dataset, licence)
            differences = compare(detector, lambda crops: run_folder(folder, crops))
    else:
        differences = write_file(detector, form, Path(output), metadata.describe(detector, licence))
    say(f"{output}: largest differences from the detector on {CROPS} crops: {differences}")
    if not licence:
        say("no licence is stated for these weights: state one before you distribute them")


def require_output(output: str) -> str:
    """The kind of output: 'onnx', 'stablehlo' or 'folder'. InputError if it cannot be written."""
    path = Path(output)
    if output.endswith("/") or path.is_dir() or not path.suffix:
        require_writable(path / "config.json", "--output")
        inside = {inner.name for inner in path.iterdir()} if path.is_dir() else set()
        killed = hub.PARTIAL in inside  # an export into this folder was
        # A new repository of a hub has hidden files and perhaps a card.
        others = {name for name in inside if not name.startswith(".")} - {"README.md"}
        if others and not killed and not bundled.holds(path):
            raise InputError(f"--output={output} is a folder of other files: give a new one")
        return "folder"
    if path.suffix not in (".onnx", ".stablehlo"):
        raise InputError(
            f"--output={output}: give a name that ends in .onnx or .stablehlo, or a folder, which "
            "ends in /"
        )
    if path.suffix == ".onnx":
        for package in ("onnx", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"ONNX needs the package {package}: pip install 'deepfidelity_jax[onnx]'"
                )
    require_writable(path, "--output")
    return path.suffix[1:]


def write_file(detector: Detector, form: str, path: Path, about: dict) -> str:
    """Run the exported file, write it and its .json, and say how far it is from the detector."""
    if form == "onnx":
        # Imported here: the packages are an extra.
        from deepfidelity_jax.export import onnx_model as module

        if detector.config.model.dtype != "float32":
            about["network"]["dtype"] = "float32"
            say("computed in float32, where the detector computes in bfloat16")
        content = module.write_model(detector, metadata.to_properties(about)).SerializeToString()
    else:
        module = stablehlo
        content = stablehlo.write_program(detector)
    differences = compare(detector, lambda crops: module.run(content, crops))
    write_json(path.with_name(path.name + ".json"), about)
    with written_whole(path) as file:
        file.write(content)
    return differences


def compare(detector: Detector, run) -> str:
    """The largest difference of each output of `run` on random crops, in words.

    Raises RuntimeError if one is larger than rounding explains.
    """
    crops = draw_crops(CROPS, detector.faces.size)
    wanted, exported = score(detector, crops), run(crops)
    # Of the exported fidelity: a step of a calibration makes any difference in fidelity large.
    wanted["p_fake"] = detector.p_fake(exported["fidelity"])
    differences = measure(wanted, exported)
    words = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    limits = {name: FAR * max(1, np.abs(array).max()) for name, array in wanted.items()}
    if not all(differences[name] < limit for name, limit in limits.items()):
        raise RuntimeError(f"the exported detector's scores differ from the original's: {words}")
    return words


def score(detector: Detector, crops: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of the detector itself."""
    fidelity = detector.fidelity(crops)
    outputs = detector.features(crops), detector.logits(crops), fidelity, detector.p_fake(fidelity)
    return dict(zip(OUTPUTS, outputs, strict=True))


def measure(wanted: Mapping[str, Any], exported: Mapping[str, Any]) -> dict[str, float]:
    """The largest absolute difference of each output."""
    return {name: float(np.max(np.abs(exported[name] - wanted[name]))) for name in OUTPUTS}


def run_folder(folder: Path, crops: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of the detector in a folder."""
    return score(load(folder), crops)


def draw_crops(count: int, size: int) -> np.ndarray:
    """Smooth random pictures, uint8 [count, size, size, 3], with grain."""
    import cv2

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 6, 3)).astype(np.float32)
    smooth = [cv2.resize(x, (size, size), interpolation=cv2.INTER_CUBIC) for x in coarse]
    grain = rng.normal(0, 8, (count, size, size, 3))
    return np.clip(np.stack(smooth) + grain, 0, 255).astype(np.uint8)
