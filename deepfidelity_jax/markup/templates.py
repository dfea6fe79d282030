"""Jinja templates: what is put into one is text, and nothing that it asks for may be missing."""

from collections.abc import Callable
from pathlib import Path

import jinja2

PALETTE = Path(__file__).with_name("palette.css")


def open_template(path: Path, **filters: Callable) -> jinja2.Template:
    """A template. It may include what lies beside it, and palette.css.

    Args:
      path: of the template.
      filters: by the names it uses.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, PALETTE.parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(path.name)
