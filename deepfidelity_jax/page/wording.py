"""Numbers, times and names as text that is safe to show."""

import unicodedata

# Invisible characters, and those that change how others appear: controls, format characters such as
# those that reverse a line, surrogates, private or unassigned characters, line separators.
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
ANYWAY = {"\u200d"}  # joins emoji and letters of some scripts


def plain(text: object) -> str:
    """The text with every invisible character replaced by its code, as ⟨U+202E⟩."""
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in UNSAFE and c not in ANYWAY else c
        for c in str(text)
    )


def number(value: float | None, digits: int = 3) -> str:
    """A number, with a true minus sign, or that it is not known."""
    return "not known" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float) -> str:
    """A change, with its sign."""
    return f"{value:+.3f}".replace("-", "−")


def clock(seconds: float) -> str:
    """A time in a video: 1:02.5."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def count(n: int, one: str, many: str = "") -> str:
    """A number of things: 1 frame, 2 frames, 1,000 frames."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def size(n: int | None) -> str:
    """The size of a file."""
    if n is None:
        return "not known"
    return (
        f"{n:,} bytes" if n < 10_000 else f"{n / 1e3:,.0f} kB" if n < 1e7 else f"{n / 1e6:,.1f} MB"
    )
