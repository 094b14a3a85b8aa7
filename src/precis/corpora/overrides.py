"""Changes to params.yaml that keep its comments: recipes, and what `precis init` proposes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from precis.errors import PrecisError
from precis.files import atomic_path


def load_yaml(path: Path) -> Any:
    """A YAML file with its comments."""
    try:
        return _yaml().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(f"{path} not found: run this from the root of the repository") from error
    except (YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise PrecisError(f"{path} is not valid YAML: {reason}") from error


def merge(values: Any, changes: Mapping[str, Any], where: str = "") -> list[str]:
    """Put changes into loaded params.yaml, in place.

    Returns:
        What changed, a line each.

    Raises:
        PrecisError: a change is for a key that is not there.
    """
    said = []
    for key, change in changes.items():
        name = f"{where}.{key}".lstrip(".")
        if key not in values:
            raise PrecisError(f"{name}: params.yaml has no such key; is it of this version of precis?")
        if isinstance(change, Mapping) and isinstance(values[key], Mapping):
            said += merge(values[key], change, name)
        elif values[key] != change:
            said.append(f"{name}: {_shown(values[key])} -> {_shown(change)}")
            values[key] = change
    return said


def recipe_changes(recipe: Mapping[str, Any], path: str | None) -> dict[str, Any]:
    """What a recipe changes in params.yaml.

    Args:
        recipe: as `load_yaml` gives it.
        path: files or a folder to use instead of the hub, whose columns the recipe's `local` names; None for the
            corpus that the recipe is about.
    """
    changes = {
        key: value for key, value in recipe.items() if key not in ("description", "local", "published")
    }
    if path is not None:
        changes["corpus"] = {**changes.get("corpus", {}), **recipe.get("local", {})}
        changes["corpus"] |= {"source": "files", "files": {"path": path}}
        changes["corpus"].pop("hub", None)
    return changes


def save_yaml(values: Any, path: Path) -> None:
    """Write what `load_yaml` read, with its comments."""
    text = io.StringIO()
    _yaml().dump(values, text)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def plain(values: object) -> object:
    """Without comments: dictionaries, lists and scalars."""
    if isinstance(values, dict):
        return {str(key): plain(value) for key, value in values.items()}
    if isinstance(values, list):
        return [plain(value) for value in values]
    return values


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 200
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
