"""`precis demo`: a page to try models on."""

from __future__ import annotations

import logging
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from precis.errors import PrecisError, log_to_stderr

if TYPE_CHECKING:
    from precis.service.models import Loaded, ServedModel

TEST_SPLIT = Path("data/prepared/test.parquet")
TRAINED = ("pointer", "attention", "encoder_decoder")  # folders of models/, the best first


def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A folder, or models:/NAME@ALIAS in the registry, or NAME=one of these; again for each. By default "
            "champion and challenger of the registry, or else what is trained in models/.",
        ),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A prepared split to pick examples from; by default the test split in data/prepared, if there is one.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="On 127.0.0.1; 0 takes a free one.")
    ] = 8008,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Open a page that shows summaries and where every word of them came from."""
    from precis.service.app import create_app
    from precis.service.demo.examples import examples_of
    from precis.service.demo.routes import demo_page
    from precis.service.limits import Limits
    from precis.service.server import listen, serve

    log_to_stderr(logging.WARNING, "%(levelname)s %(name)s: %(message)s")
    try:
        listener = listen("127.0.0.1", port)
    except PrecisError as error:
        raise PrecisError(
            f"port {port} of 127.0.0.1 cannot be used, perhaps another demo has it: --port names another, 0 takes a "
            f"free one ({error.__cause__})"
        ) from error
    if examples is None and TEST_SPLIT.is_file():
        examples = TEST_SPLIT
    page = demo_page(examples_of(examples))
    models = _open(model) if model else _usual()
    limits = Limits()
    # one thread is enough for one document, and two models side by side answer at once
    app = create_app(models, limits=limits, workers=2, threads=1, pages=[page])
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    def announce() -> None:
        for name, served in models.items():
            print(f"{name}: {served.uri}")
        print(f"the demo page is at {address}, Ctrl-C stops it", flush=True)
        if browser:
            webbrowser.open(address)

    sys.exit(
        serve(
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
        models[name] = ServedModel(name, uri, _told_how_to_write(uri, open_model(uri)))
    return models


def _usual() -> dict[str, ServedModel]:
    """Champion and challenger, or else the models of the working copy."""
    found = _in_registry()
    found = found or [f"models/{name}" for name in TRAINED if Path("models", name, "model.json").is_file()]
    if not found:
        raise PrecisError(
            "there is no model to show: the registry has neither champion nor challenger, and models/ no trained "
            "model. Run `make repro`, or name one with --model"
        )
    return _open(found)


def _in_registry() -> list[str]:
    from precis.opening import DEFAULT_NAME
    from precis.params import PARAMS_FILE, load_params
    from precis.registry.versions import CHALLENGER, CHAMPION, find_alias
    from precis.training.tracking import configure

    if not Path("mlflow.db").is_file() and not os.environ.keys() & {
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
    }:
        return []  # to look would make a database
    client = configure()
    name = load_params().registry.name if PARAMS_FILE.is_file() else DEFAULT_NAME
    champion, challenger = (find_alias(client, name, alias) for alias in (CHAMPION, CHALLENGER))
    found = {CHAMPION: champion, CHALLENGER: challenger}
    if champion is not None and challenger is not None and champion.number == challenger.number:
        del found[CHALLENGER]  # one version under both names would stand beside itself
    return [f"models:/{name}@{alias}" for alias, version in found.items() if version is not None]


def _told_how_to_write(uri: str, loaded: Loaded) -> Loaded:
    """A registered model knows how it was evaluated; for one of a working copy its params.yaml does."""
    from precis.opening import project_decoding

    if not loaded.summarizer.decoding:
        loaded.summarizer.decoding = project_decoding(Path(uri))
    return loaded
