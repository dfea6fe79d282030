"""Reading a PyTorch checkpoint of SSAAFormer-L: `python benchmarks/reading.py [--json=FILE]`.

PyTorch (extra `torch`) writes random weights with the official names and shapes, and fresh
processes read them. Time and peak memory are measured after the imports.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

# Run in a separate process, as the peak memory of a process never falls. {read} is timed.
PROGRAM = """
import resource, sys, time
{imports}

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

path = sys.argv[1]
{prepare}
before, start = peak(), time.perf_counter()
{read}
print(time.perf_counter() - start, peak() - before)
"""
OURS = "from deepfidelity_jax.weight_files import torch_file"
FORMS = {
    "read here: every number mapped and checked": {
        "imports": OURS,
        "read": "weights = torch_file.locate(torch_file.read(path))[1]\n"
        "total = sum(float(x.sum()) for x in weights.values())",
    },
    "read and converted here": {
        "imports": OURS + "\nfrom deepfidelity_jax.official import network",
        "prepare": "network.shapes_of(network.SSAAFormerConfig.large())",
        "read": "variables = network.from_state_dict(torch_file.locate(torch_file.read(path))[1])",
    },
    "torch.load": {
        "imports": "import torch",
        "read": "weights = torch.load(path, weights_only=True)",
    },
}
WRITE = """
import sys, torch
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig
from deepfidelity_jax.official.network import name_tensors
tensors = name_tensors(SSAAFormerConfig.large())
torch.save({"state_dict": {t.name: torch.randn(t.shape) for t in tensors}}, sys.argv[1],
           _use_new_zipfile_serialization=sys.argv[2] == "zip")
"""


def measure(path: Path, form: dict[str, str]) -> tuple[float, float]:
    """Seconds and bytes of peak memory of one way to read, in a fresh process."""
    program = PROGRAM.format(**{"prepare": "", **form})
    printed = subprocess.check_output([sys.executable, "-c", program, str(path)], text=True)
    seconds, memory = map(float, printed.split())
    return seconds, memory


def main():
    """Print the table, and write it to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("zip", "legacy"):
            path = Path(folder) / f"{kind}.pth"
            subprocess.run([sys.executable, "-c", WRITE, str(path), kind], check=True)
            size = path.stat().st_size
            print(f"{kind} format, {size / 1e6:.0f} MB")
            for name, form in FORMS.items():
                runs = [measure(path, form) for _ in range(options.rounds)]
                seconds, memory = min(s for s, _ in runs), max(m for _, m in runs)
                row = {"format": kind, "form": name, "size": size, "s": seconds, "peak": memory}
                rows.append(row)
                print(f"  {name:44} {seconds:6.2f} s  peak memory {memory / size:5.2f} x its size")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
