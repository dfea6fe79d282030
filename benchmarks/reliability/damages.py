"""Ways to damage the bytes of a file at random."""

import random


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    """Flip a few bits anywhere."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_header(content: bytes, rng: random.Random) -> bytes:
    """Change a few of the first 64 bytes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 4))):
        if changed:
            changed[rng.randrange(min(64, len(changed)))] = rng.randrange(256)
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    """Cut off the end."""
    return content[: rng.randrange(len(content) + 1)]


def insert(content: bytes, rng: random.Random) -> bytes:
    """Insert random bytes somewhere."""
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((1, 16, 1000))) + content[at:]


def blank(content: bytes, rng: random.Random) -> bytes:
    """Overwrite a stretch with zeros or ones, like a bad sector."""
    at, length = rng.randrange(len(content) + 1), rng.choice((4, 512, 4096))
    filling = rng.choice((b"\0", b"\xff")) * min(length, len(content) - at)
    return content[:at] + filling + content[at + len(filling) :]


def move(content: bytes, rng: random.Random) -> bytes:
    """Exchange two stretches."""
    length = max(1, len(content) // rng.choice((4, 16, 64)))
    a, b = sorted(rng.randrange(max(1, len(content) - length)) for _ in range(2))
    b = max(b, a + length)
    parts = content[:a], content[b : b + length], content[a + length : b], content[a : a + length]
    return b"".join([*parts, content[b + length :]])


def exaggerate(content: bytes, rng: random.Random) -> bytes:
    """Make a four-byte number huge, as sizes and offsets are such numbers."""
    at = rng.randrange(max(1, min(len(content), 2000) - 4))
    huge = rng.choice((b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\0" * 4))
    return content[:at] + huge + content[at + 4 :]


DAMAGES = (flip_bits, flip_header, cut, insert, blank, move, exaggerate)
