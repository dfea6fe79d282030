"""Text from files is shown as it is, and never hides or turns anything."""

import pytest

from deepfidelity_jax.page.wording import clock, number, plain, signed, size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Anna Müller – 写真.jpg", "Anna Müller – 写真.jpg"),
        ("gpj.\u202eexe", "gpj.⟨U+202E⟩exe"),
        ("a\nb\x1b[31m\x00", "a⟨U+000A⟩b⟨U+001B⟩[31m⟨U+0000⟩"),
        ("\udcff.jpg", "⟨U+DCFF⟩.jpg"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_names_are_plain(text, shown):
    assert plain(text) == shown
    plain(text).encode()


def test_numbers_and_times():
    assert number(-0.12345) == "−0.123"
    assert number(None) == "not known"
    assert signed(0.05) == "+0.050"
    assert clock(0.0) == "0:00.0"
    assert clock(59.97) == "1:00.0"
    assert clock(3725.26) == "62:05.3"
    assert size(950) == "950 bytes"
    assert size(95_084) == "95 kB"
    assert size(12_345_678) == "12.3 MB"
    assert size(None) == "not known"
