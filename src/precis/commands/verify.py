"""Recompute where a model came from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from precis.params import load_params


def verify(
    uri: Annotated[
        str,
        typer.Argument(help="models:/NAME@ALIAS, models:/NAME/NUMBER, runs:/ID, a summary's id, or its file"),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object for each link")] = False,
) -> None:
    """Check every link from a model to its data that can be recomputed here; exit 1 at the first that fails."""
    from precis.registry.lineage import verify
    from precis.registry.resolve import resolve
    from precis.training.tracking import configure

    client = configure()
    version = resolve(client, uri, load_params().registry.name)
    if not as_json:
        print(f"{version.name} version {version.number}")
    num_unchecked = 0
    for link in verify(client, version, Path.cwd()):
        if as_json:
            print(json.dumps({"version": version.number, **asdict(link)}))
        else:
            print(f"  {link.state:<9}  {link.name}: {link.detail}")
        if link.state == "failed":
            typer.echo(f"error: the chain of {version.uri} breaks at {link.name}: {link.detail}", err=True)
            raise typer.Exit(1)
        num_unchecked += link.state == "unchecked"
    if as_json:
        return
    print(
        "all links hold"
        if not num_unchecked
        else f"all links hold that can be checked here; {num_unchecked} cannot"
    )
