"""HTML pages: one file each, which opens offline and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

# https://html.spec.whatwg.org/multipage/parsing.html: controls, surrogates and what is no character
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; every value is escaped.

    A content security policy lets the page's own script run, known by its digest, and nothing else.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("precis.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_permitted,
    )
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # our own files, not a document's text: they are what may stand in the page as they are
    own = {"css": Markup(_read("page.css")), "script": Markup(script), "script_digest": Markup(digest)}  # noqa: S704
    return environment.get_template(template).render(**own, **values)


def _permitted(value: Any) -> Any:
    """What HTML may not contain, even escaped, as a replacement character; offsets into a text stay right."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _FORBIDDEN.sub("\ufffd", value.replace("\r", " "))


def _read(name: str) -> str:
    return files("precis.reporting").joinpath("templates", name).read_text(encoding="utf-8")
