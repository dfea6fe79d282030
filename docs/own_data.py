"""Run every command of docs/own_data.md and write what it prints into the page.

    python docs/own_data.py

The folders are made anew from rendered faces. A comment `<!-- shell: COMMAND -->` in the page is
run as well, and `...` in a command stands for the options of the last training. Takes minutes.
"""

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.forgeries import families

PAGE = Path(__file__).with_suffix(".md")
SIZE, FRAMES = 192, 6
STEP = re.compile(
    r"<!-- shell: (?P<shell>.*?) -->|```\n\$ (?P<command>.*?[^\\])\n(?P<told>.*?)```", re.S
)
# Progress, file names and long lists.
DROPPED = re.compile(r"read \d|prepared \d|  \S+: |records in|step \d+/|features of|\d+ of \d+ ")
KEPT = re.compile(r"  (frame|video)_|  [a-z_]+: frame_auc")


def main():
    """Make the folders, run the page's commands in its order, and rewrite the page."""
    text, options = PAGE.read_text(encoding="utf-8"), []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        film_clips(place)
        parts, end = [], 0
        for step in STEP.finditer(text):
            parts.append(text[end : step.start()])
            end = step.end()
            if step["shell"]:
                subprocess.run(step["shell"], shell=True, cwd=place, check=True)
                parts.append(step[0])
            else:
                given = complete(step["command"], options)
                options = given if "--config=configs/folder.py" in given else options
                print("$", *given, flush=True)
                parts.append(f"```\n$ {step['command']}\n{run(given, place)}```")
        PAGE.write_text("".join(parts) + text[end:], encoding="utf-8")


def complete(command: str, before: list[str]) -> list[str]:
    """The words of a command, `...` replaced by the options of the last training that it lacks."""
    words = shlex.split(command.replace("\\\n", " "))[2:]  # without `python run.py`
    if "..." in words:
        words.remove("...")
        named = {word.split("=")[0] for word in words}
        words = [word for word in before if word.split("=")[0] not in named] + words
    return words


def run(options: list[str], place: Path) -> str:
    """What a command prints on a terminal, less what the page leaves out."""
    tree = PAGE.parents[1]
    given = [
        word.replace("/tmp/faces", f"{place}/runs/faces").replace("=configs/", f"={tree}/configs/")
        for word in options
    ]
    done = subprocess.run(
        [sys.executable, str(tree / "run.py"), *given],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    told = done.stdout.replace(f"{place}/runs/faces", "/tmp/faces").replace(f"{place}/", "")
    print(told, flush=True)
    lines = told.splitlines(keepends=True)
    return "".join(line for line in lines if KEPT.match(line) or not DROPPED.match(line))


def film_clips(place: Path) -> None:
    """40 real and 40 forged clips of different people in `faces`, more of each in two others."""
    for number in range(40):
        save(place / f"faces/Real_videos/clip_{number:02}", photograph(number))
        family = ("self_blend", "swap")[number % 2]
        save(place / f"faces/Fake_videos/{family}/clip_{number:02}", forge(40 + number, family))
    for number in range(2):
        save(place / f"more/clip_{40 + number}", photograph(100 + number))
    for number in range(8):
        save(place / f"later/real/clip_{number:02}", photograph(80 + number))
        save(place / f"later/fake/swap/clip_{number:02}", forge(90 + number, "swap"))


def film(identity: int) -> list[families.Face]:
    """The frames of one rendered person."""
    person = renderer.sample_identity(np.random.default_rng([0, identity]))
    rng = np.random.default_rng([0, identity, 0])
    scene = renderer.sample_scene(rng)
    poses = renderer.sample_poses(rng, FRAMES)
    return [families.Face(*renderer.render(person, scene, pose, SIZE)) for pose in poses]


def photograph(identity: int) -> list[np.ndarray]:
    """The frames as they were filmed."""
    return [face.pixels for face in film(identity)]


def forge(identity: int, family: str) -> list[np.ndarray]:
    """The frames of a person, all forged in the same way."""
    donor, draw = film(identity + 200)[0], [1, identity]
    return [
        families.forge(family, face, donor, np.random.default_rng(draw))[0]
        for face in film(identity)
    ]


def save(folder: Path, frames: list[np.ndarray]) -> None:
    """Write a clip as numbered pictures."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / f"{number:04}.png")


if __name__ == "__main__":
    main()
