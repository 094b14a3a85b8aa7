"""Go back to an earlier champion."""

from __future__ import annotations

from typing import Annotated

import typer

from precis.params import load_params


def rollback(
    reason: Annotated[str, typer.Option(help="why; kept in the history")],
    to: Annotated[int | None, typer.Option(help="which earlier champion; without it, the one before")] = None,
) -> None:
    """Make the champion before this one the champion again; the gate will not promote this one by itself."""
    from precis.registry import promotion
    from precis.training.tracking import configure

    name = load_params().registry.name
    record = promotion.rollback(configure(), name, reason=reason, to=to)
    print(
        f"version {record.champion_after} of {name} is champion again, "
        f"after version {record.champion_before} (record {record.number})"
    )
