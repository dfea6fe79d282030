"""Jinja templates, in which values are escaped and missing values are errors."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import jinja2

PALETTE = Path(__file__).with_name("palette.css")


@cache
def open_template(path: Path, **filters: Callable) -> jinja2.Template:
    """Open a template, once. It may include files beside it, and palette.css.

    Args:
      path: path of the template.
      filters: the template's filters by name.
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
