"""What is put into a template is text; the colours can be read in light and in dark."""

import re

import jinja2
import pytest

from deepfidelity_jax.markup.templates import PALETTE, open_template
from deepfidelity_jax.scoring.charts import COLOURS

TEXT = ("ink", "soft", "real", "fake", "uncertain", "accent")


def test_a_template_shows_text_and_passes_over_nothing(tmp_path):
    path = tmp_path / "a.html.j2"
    path.write_text('{% include "palette.css" %}{% include "b.j2" %}<p>{{ word | twice }}</p>')
    (tmp_path / "b.j2").write_text("beside ")
    template = open_template(path, twice=lambda word: 2 * word)
    shown = template.render(word="<b>")
    assert shown == PALETTE.read_text().rstrip("\n") + "beside <p>&lt;b&gt;&lt;b&gt;</p>"
    with pytest.raises(jinja2.UndefinedError, match="word"):
        template.render()


def schemes():
    """The colours of light and of dark, by name."""
    light, dark = PALETTE.read_text().split("@media screen and (prefers-color-scheme: dark)")
    return [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in (light, dark)]


def contrast(one, other):
    """The ratio of WCAG 2, from 1 to 21."""

    def luminance(colour):
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return sum(share * v for share, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", schemes(), ids=["light", "dark"])
def test_text_can_be_read_and_borders_of_controls_be_seen(colours):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for back in ("page", "panel"):
        for name in TEXT:
            assert contrast(colours[name], colours[back]) >= 4.5, (name, back)
        assert contrast(colours["muted"], colours[back]) >= 3


def test_both_schemes_have_every_colour_and_those_of_charts():
    light, dark = schemes()
    assert light.keys() == dark.keys() >= COLOURS.keys()
