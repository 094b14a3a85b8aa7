"""`precis recipe`: parameters for known corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from precis.corpora.overrides import load_yaml, merge, plain, recipe_changes, save_yaml
from precis.errors import PrecisError
from precis.params import PARAMS_FILE, check_params

RECIPES = Path("recipes")


def recipe(
    name: Annotated[
        str, typer.Argument(help="The recipe to apply, or a file of one; `list` names them all.")
    ],
    path: Annotated[
        str | None,
        typer.Option(help="Files or a folder to use instead of the hub; file names tell the splits."),
    ] = None,
) -> None:
    """Merge the parameters of a known corpus into params.yaml, which keeps its comments."""
    if name == "list":
        for recipe_name in _names():
            print(f"{recipe_name:<15} {load_yaml(RECIPES / f'{recipe_name}.yaml')['description']}")
        return
    file = recipe_file(name)
    loaded = load_yaml(file)
    if not isinstance(loaded, dict):
        raise PrecisError(f"{file} is no recipe: expected sections of params.yaml, such as `train:`")
    if path is not None and "://" not in path and not Path(path).exists():
        raise PrecisError(f"--path: {path} not found")
    changes = recipe_changes(loaded, path)
    params = load_yaml(PARAMS_FILE)
    said = merge(params, changes)
    check_params(plain(params), f"params.yaml with recipe {name}")
    save_yaml(params, PARAMS_FILE)
    print("\n".join(said) or "params.yaml has these values already")
    if "published" in loaded:
        print(f"\nPublished: {loaded['published']}")
    print("\nNow run `dvc repro`.")


def recipe_file(name: str) -> Path:
    """The file of a recipe, given by its name or as a file.

    Raises:
        PrecisError: there is none; the message names those that there are.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise PrecisError(f"the recipe {name} not found")
        return Path(name)
    if name not in _names():
        raise PrecisError(f"there is no recipe {name!r}; there are: {', '.join(_names())}")
    return RECIPES / f"{name}.yaml"


def _names() -> list[str]:
    names = sorted(file.stem for file in RECIPES.glob("*.yaml"))
    if not names:
        raise PrecisError(f"{RECIPES}/ not found: run this from the root of the repository")
    return names
