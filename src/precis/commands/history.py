"""Who was champion, when and why."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from precis.params import load_params


def history(
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False,
) -> None:
    """Show every promotion, rollback and refusal, oldest first, with its reason and who or what started it."""
    from precis.registry import promotion
    from precis.training.tracking import configure

    client = configure()
    name = load_params().registry.name
    records = promotion.history(client, name)
    if as_json:
        for record in records:
            print(json.dumps({**dataclasses.asdict(record), "at": record.at.isoformat()}))
        return
    if not records:
        print(f"{name} has no history yet: `precis promote` starts it")
    for record in records:
        champion = f"champion: version {record.champion_after}" if record.champion_after else "no champion"
        print(
            f"{record.number:>4}  {record.at:%Y-%m-%d %H:%M:%S} UTC  {record.event:<8}  {champion}  by {record.by}"
        )
        print(f"      {record.reason}")
