"""`precis serve`: summaries over HTTP."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from precis.errors import PrecisError, log_to_stderr
from precis.service.limits import Limits

if TYPE_CHECKING:
    from precis.service.models import ServedModel

DEFAULT_MODEL = "models:/precis@champion"
TOKEN_VARIABLE = "PRECIS_SERVE_TOKEN"  # noqa: S105 - the name of a variable
SHORTEST_TOKEN = 16  # characters
LIMITS = Limits()


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
    watch: Annotated[
        float, typer.Option(min=0, help="Seconds between two looks for a new champion; 0: none.")
    ] = 10,
    wait: Annotated[
        bool, typer.Option("--wait", help="Start without a model, and wait for one to be promoted.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name that clients call this service by; again for each.")
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Listen beyond this machine without a token.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Searches at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Threads of each; 0: the cores, shared.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="The most documents in one search.")] = 16,
    waiting: Annotated[
        int, typer.Option(min=0, help="Documents that may wait; 0: two searches for each worker.")
    ] = LIMITS.waiting,
    deadline: Annotated[
        float, typer.Option(min=0.1, help="Seconds for a request.")
    ] = LIMITS.deadline_seconds,
    body_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds for its headers, and for its body.")
    ] = LIMITS.body_seconds,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = LIMITS.body_bytes,
    max_documents: Annotated[int, typer.Option(min=1, help="Documents of a request.")] = LIMITS.documents,
    max_characters: Annotated[int, typer.Option(min=1, help="Characters of a document.")] = LIMITS.characters,
    max_depth: Annotated[int, typer.Option(min=2, help="Nesting of its JSON.")] = LIMITS.depth,
    max_beam: Annotated[int, typer.Option(min=1, help="Largest beam_size.")] = LIMITS.beam_size,
    max_words: Annotated[int, typer.Option(min=1, help="Largest max_length.")] = LIMITS.summary_words,
    max_connections: Annotated[int, typer.Option(min=1, help="Open connections.")] = LIMITS.connections,
) -> None:
    """Answer POST /summarize, GET /health, /metrics and /docs over HTTP.

    SIGTERM and Ctrl-C finish what has begun, for at most 30 seconds; the exit code is then 143 or 130.
    """
    # oneDNN keeps what it made for each shape of a batch, 1,024 by default: that would be memory that grows for hours
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    from precis.service.app import LOCAL_HOSTS, create_app
    from precis.service.server import listen
    from precis.service.server import serve as run

    log_to_stderr(form="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    token = _token()
    if token is None and not no_token and not is_loopback(host):
        raise PrecisError(
            f"--host {host} can be reached from other machines: put a token that clients must send into "
            f"{TOKEN_VARIABLE}, or say --no-token where something in front of the service asks who they are"
        )
    if wait and not watch:
        raise PrecisError("--wait waits for what --watch finds: give --watch some seconds")
    limits = Limits(
        body_bytes=max_body,
        documents=max_documents,
        characters=max_characters,
        depth=max_depth,
        beam_size=max_beam,
        summary_words=max_words,
        deadline_seconds=deadline,
        body_seconds=body_seconds,
        waiting=waiting,
        connections=max_connections,
    )
    listener = listen(host, port)
    models = _open(model or [DEFAULT_MODEL], wait=wait)
    shown = f"[{host}]" if ":" in host else host
    app = create_app(
        models,
        limits=limits,
        workers=workers,
        threads=threads,
        batch_size=batch_size,
        hosts=(*LOCAL_HOSTS, shown, *(allow_host or [])),
        token=token,
        watch_seconds=watch,
    )

    def announce() -> None:
        for name, served in models.items():
            loaded = served.loaded
            version = f"version {loaded.version}" if loaded is not None else "nothing yet"
            print(f"{name}: {served.uri}, {version}")
        print(f"precis serves at http://{shown}:{listener.getsockname()[1]}, Ctrl-C stops it", flush=True)

    sys.exit(
        run(
            app,
            listener,
            header_seconds=limits.body_seconds,
            connections=limits.connections,
            when_ready=announce,
        )
    )


def _open(asked: list[str], *, wait: bool) -> dict[str, ServedModel]:
    from precis.service.models import ServedModel, is_alias, name_of, open_model
    from precis.service.swap import smoke_test

    models: dict[str, ServedModel] = {}
    for one in asked:
        given, equals, rest = one.partition("=")
        name, uri = (given, rest) if equals else (name_of(one), one)
        if name in models:
            raise PrecisError(f"two models are called {name}: give one another name, with --model NAME={uri}")
        models[name] = served = ServedModel(name, uri)
        try:
            loaded = open_model(uri)
            smoke_test(loaded.summarizer)
        except PrecisError as error:
            if not (wait and is_alias(uri)):
                raise PrecisError(f"{uri} cannot be served: {error}") from error
            served.problem = str(error)
        else:
            served.swap(loaded)
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
