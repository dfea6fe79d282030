"""Draw docs/map.svg, the packages and the way of one picture: `python docs/map.py`."""

from pathlib import Path

# From top to bottom; within a row imports go to the left. tests/tree/test_layout.py checks both.
ROWS = {
    "commands": {
        "provenance": "what a run is made of",
        "page": "one input, explained",
        "server": "a page and an API",
        "pipeline": "the stages in order",
        "experiments": "many runs, one answer",
        "cli": "the modes",
    },
    "a detector": {
        "training": "trains the network",
        "detector": "gives verdicts",
        "explanation": "what they rest on",
        "export": "for other programs",
        "scoring": "figures and report",
        "comparison": "several, side by side",
        "official": "official weights",
    },
    "data": {
        "records": "raw data to TFDS records",
        "leaks": "what is in two splits",
        "options": "what each option may be",
        "markup": "templates, colours",
    },
    "a face": {
        "images": "read pictures and videos",
        "faces": "find, follow, crop",
        "forgeries": "forge, degrade, augment",
        "quality": "how good a picture is",
    },
    "mathematics": {
        "network": "the paper's network",
        "fidelity": "target, regressor, verdict",
        "statistics": "how good, how sure",
        "weight_files": "tensors of others",
    },
    "ground": {
        "errors": "user mistakes",
        "files": "whole or not at all",
        "processes": "hosts and workers",
        "progress": "on stderr",
        "folders": "disk or archive",
        "workdir": "a run's folder",
    },
}
WAY = (
    "images", "faces", "quality", "records", "leaks", "training", "network", "fidelity", "scoring",
    "detector",
)  # fmt: skip
PAPER = {"network", "fidelity"}
WIDTH, LEFT, TOP, STEP, HEIGHT, GAP = 1000, 150, 20, 92, 66, 14
BLUE, VIOLET, GREY, INK, SOFT = "#2272ad", "#5f4fc4", "#aab2bd", "#1d2129", "#5a626e"


def text(x: float, y: float, words: str, size: int = 13, more: str = f'fill="{SOFT}"') -> str:
    """One line of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" {more}>{words}</text>'


def draw_room(room: str, about: str, x: float, y: float, width: float, size: int) -> list[str]:
    """A box with the room's name, what it is for, and its number on the way."""
    colour = VIOLET if room in PAPER else BLUE if room in WAY else GREY
    back = "#efedfb" if room in PAPER else "#ffffff"
    lines = [
        f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{HEIGHT}" rx="6" fill="{back}" '
        f'stroke="{colour}" stroke-width="1.5"/>',
        text(x + 12, y + 28, room, 16, f'font-weight="bold" fill="{INK}"'),
        text(x + 12, y + 49, about, size),
    ]
    if room in WAY:
        white = 'font-weight="bold" fill="#ffffff" text-anchor="middle"'
        lines += [
            f'<circle cx="{x + width - 18:.0f}" cy="{y + 20}" r="12" fill="{colour}"/>',
            text(x + width - 18, y + 25, str(WAY.index(room) + 1), 13, white),
        ]
    return lines


def draw() -> str:
    """The whole map."""
    height = TOP + STEP * len(ROWS) + 44
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif">',
        "<title>The packages of deepfidelity_jax</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for row, (name, rooms) in enumerate(ROWS.items()):
        y = TOP + row * STEP
        lines += [
            f'<rect x="12" y="{y - 8}" width="{WIDTH - 24}" height="{HEIGHT + 16}" rx="8" '
            'fill="#f5f6f8"/>',
            text(28, y + HEIGHT / 2 + 5, name, 15),
        ]
        columns = max(len(rooms), 4 if len(rooms) == 2 else 3)
        width = (WIDTH - 36 - LEFT - GAP * (columns - 1)) / columns
        for column, (room, about) in enumerate(rooms.items()):
            x = LEFT + column * (width + GAP)
            lines += draw_room(room, about, x, y, width, 13 if len(rooms) < 6 else 11)
    y = TOP + STEP * len(ROWS) + 14
    lines += [
        f'<path d="M28 {y - 8}v16m-5 -5l5 6l5 -6" stroke="{SOFT}" stroke-width="1.5" fill="none"/>',
        text(44, y + 5, "imports go down or to the left"),
        f'<circle cx="256" cy="{y}" r="9" fill="{BLUE}"/>',
        text(272, y + 5, "the way of one picture"),
        f'<rect x="432" y="{y - 9}" width="18" height="18" rx="4" fill="#efedfb" '
        f'stroke="{VIOLET}" stroke-width="1.5"/>',
        text(458, y + 5, "the paper's idea"),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("map.svg").write_text(draw(), encoding="utf-8")
