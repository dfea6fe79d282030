"""Drawings as part of a page."""

import hashlib
import re
from collections.abc import Mapping

from markupsafe import Markup, escape


def inline(svg: str, alternative: str, colours: Mapping[str, str]) -> Markup:
    """A matplotlib drawing as part of a page, in the page's colours.

    Args:
      svg: the drawing.
      alternative: what it shows, for those who do not see it.
      colours: the colours in it, by the name of the page's variable that replaces them.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"(?s)<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg)
    view = re.search(r'viewBox="[^"]*"', svg).group()
    opening = f'<svg {view} role="img" aria-label="{escape(alternative)}">'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)
    svg = svg.replace("xlink:href", "href")
    # Remove unused ids, and make the others different from those of other drawings.
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(|href=")#(\w+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found.group() if found[1] in used else "", svg)
    svg = re.sub(r'(id="|url\(#|href="#)(?=\w)', rf"\g<1>d{own}-", svg)
    for name, colour in colours.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(svg)
