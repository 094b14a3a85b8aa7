"""`precis recipe`: parameters for known corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from precis.corpora.overrides import load_yaml, merge, plain, save_yaml
from precis.errors import PrecisError
from precis.params import PARAMS_FILE, check_params

RECIPES = Path("recipes")


def recipe(
    name: Annotated[str, typer.Argument(help="The recipe to apply; `list` names them all.")],
    path: Annotated[
        str | None,
        typer.Option(help="Files or a folder to use instead of the hub; file names tell the splits."),
    ] = None,
) -> None:
    """Merge the parameters of a known corpus into params.yaml, which keeps its comments."""
    there = sorted(file.stem for file in RECIPES.glob("*.yaml"))
    if not there:
        raise PrecisError(f"{RECIPES}/ not found: run this from the root of the repository")
    if name == "list":
        for recipe_name in there:
            print(f"{recipe_name:<15} {load_yaml(RECIPES / f'{recipe_name}.yaml')['description']}")
        return
    if name not in there:
        raise PrecisError(f"there is no recipe {name!r}; there are: {', '.join(there)}")
    loaded = load_yaml(RECIPES / f"{name}.yaml")
    changes = {
        key: value for key, value in loaded.items() if key not in ("description", "local", "published")
    }
    if path is not None:
        if "://" not in path and not Path(path).exists():
            raise PrecisError(f"--path: {path} not found")
        changes["corpus"] = {**changes["corpus"], **loaded.get("local", {})}
        changes["corpus"] |= {"source": "files", "files": {"path": path}}
        changes["corpus"].pop("hub", None)
    params = load_yaml(PARAMS_FILE)
    said = merge(params, changes)
    check_params(plain(params), f"params.yaml with recipe {name}")
    save_yaml(params, PARAMS_FILE)
    print("\n".join(said) or "params.yaml has these values already")
    if "published" in loaded:
        print(f"\nPublished: {loaded['published']}")
    print("\nNow run `dvc repro`.")
