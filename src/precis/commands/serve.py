"""`precis serve`: summaries over HTTP."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from precis.errors import PrecisError

if TYPE_CHECKING:
    from precis.service.models import ServedModel

DEFAULT_MODEL = "models:/precis@champion"
TOKEN_VARIABLE = "PRECIS_SERVE_TOKEN"  # noqa: S105 - the name of a variable
SHORTEST_TOKEN = 16  # characters


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder, or models:/NAME@ALIAS in the registry, or NAME=one of these; again for each. The first "
            f"answers requests that name none. By default {DEFAULT_MODEL}."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Searches at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Threads of each; 0: the cores, shared.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="The most documents in one search.")] = 16,
) -> None:
    """Answer POST /summarize, GET /health and GET /metrics."""
    from precis.service.app import LOCAL_HOSTS, create_app
    from precis.service.limits import Limits
    from precis.service.server import listen
    from precis.service.server import serve as run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    token = _token()
    limits = Limits()
    listener = listen(host, port)
    models = _open(model or [DEFAULT_MODEL])
    app = create_app(
        models,
        limits=limits,
        workers=workers,
        threads=threads,
        batch_size=batch_size,
        hosts=(*LOCAL_HOSTS, host),
        token=token,
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}"

    def announce() -> None:
        for name, served in models.items():
            loaded = served.loaded
            version = f"version {loaded.version}" if loaded is not None else "nothing yet"
            print(f"{name}: {served.uri}, {version}")
        print(f"precis serves at {address}, Ctrl-C stops it", flush=True)

    sys.exit(
        run(
            app,
            listener,
            header_seconds=limits.body_seconds,
            connections=limits.connections,
            when_ready=announce,
        )
    )


def _open(asked: list[str]) -> dict[str, ServedModel]:
    from precis.service.models import ServedModel, name_of, open_model

    models: dict[str, ServedModel] = {}
    for one in asked:
        given, equals, rest = one.partition("=")
        name, uri = (given, rest) if equals else (name_of(one), one)
        if name in models:
            raise PrecisError(f"two models are called {name}: give one another name, with --model NAME={uri}")
        models[name] = ServedModel(name, uri, open_model(uri))
    return models


def _token() -> str | None:
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise PrecisError(
            f"{TOKEN_VARIABLE}: expected at least {SHORTEST_TOKEN} ASCII characters without spaces"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
