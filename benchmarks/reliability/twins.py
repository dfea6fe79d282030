"""Two commands on one workdir, or on one file of predictions, at the same time.

    python benchmarks/reliability/twins.py [--count=10]

The second must stop at once with one line and status 2, before it has changed anything. The first
must end as if it had run alone.
"""

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path

import kills
import small_run


def main():
    """Run the campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10)
    options = parser.parse_args()
    folder, rng, faults = Path(tempfile.mkdtemp(prefix="twins-")), random.Random(0), []
    before, after, seconds = kills.prepare_references(folder)
    stages = [*small_run.STAGES, "predict"]
    for trial in range(options.count):
        stage = stages[trial % len(stages)]
        workdir = folder / f"trial-{trial}"
        shutil.copytree(before[stage], workdir)
        argv = kills.commands(stage, workdir)
        first = small_run.start(argv)
        time.sleep(rng.uniform(0.4, 0.7) * seconds[stage])
        began = time.monotonic()
        status, _, stderr = small_run.finish(argv)
        took, alone = time.monotonic() - began, first.poll() is not None
        first.communicate()
        lines = stderr.strip().splitlines()
        wrong = []
        if not alone and (status != 2 or len(lines) != 1):
            wrong.append(f"the second ended with status {status}")
        if first.returncode:
            wrong.append(f"the first ended with status {first.returncode}")
        if names := kills.differing(kills.results(stage, workdir), after[stage]):
            wrong.append(f"differs in {names[:3]}")
        faults += [f"{stage}: {fault}" for fault in wrong]
        note = "the first had ended" if alone else f"the second said after {took:.1f} s: {lines}"
        print(f"{stage}: {'; '.join(wrong) or 'well'}; {note}", flush=True)
        shutil.rmtree(workdir)
    print(f"\n{options.count} pairs, {len(faults)} faults")
    shutil.rmtree(folder)
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
