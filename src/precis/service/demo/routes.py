"""The page, its parts, and what it asks before anybody has pressed a button."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response

from precis.service.demo.examples import Example

if TYPE_CHECKING:
    from precis.service.app import Service
    from precis.service.models import Loaded

_PARTS = {
    "demo.css": "text/css; charset=utf-8",
    "demo.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# its own files and its own service, and nothing else; what a document says cannot become a script: the browser
# refuses to make HTML of any string
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # another version of precis may bring another page
}
_SHOWN_SETTINGS = ("beam_size", "min_length", "max_length", "length_penalty")


def demo_page(examples: Sequence[Example]) -> Callable[[FastAPI], None]:
    """The demo page at `/`, for `precis.service.app.create_app`.

    Args:
        examples: documents to pick.
    """

    def add(app: FastAPI) -> None:
        service: Service = app.state.service
        router = APIRouter(include_in_schema=False)

        @router.get("/")
        def page() -> Response:
            return _file("index.html", "text/html; charset=utf-8")

        @router.get("/demo/start")
        def start() -> dict[str, Any]:
            # asked anew each time: an alias may have moved
            loaded = ((name, model.loaded) for name, model in service.models.items())
            return {
                "models": [_about(name, one) for name, one in loaded if one is not None],
                "examples": [asdict(example) for example in examples],
                "limits": {
                    "beam_size": service.limits.beam_size,
                    "summary_words": service.limits.summary_words,
                },
            }

        for name, media_type in _PARTS.items():
            router.add_api_route(f"/demo/{name}", _part(name, media_type))
        app.include_router(router)

    return add


def _about(name: str, loaded: Loaded) -> dict[str, Any]:
    """What the page says of a model, and how the model writes unless told otherwise."""
    summarizer = loaded.summarizer
    kind = summarizer.model.name
    version = f"version {loaded.version}" if loaded.number is not None else f"files {loaded.version}"
    return {
        "name": name,
        "about": version if kind == name else f"{kind}, {version}",
        "reads": summarizer.source_max_length,
        "decoding": {setting: summarizer.decoding[setting] for setting in _SHOWN_SETTINGS},
    }


def _part(name: str, media_type: str) -> Callable[[], Response]:
    def part() -> Response:
        return _file(name, media_type)

    return part


def _file(name: str, media_type: str) -> Response:
    content = files("precis.service.demo").joinpath("static", name).read_bytes()
    return Response(content, media_type=media_type, headers=_HEADERS)
