"""Which parameters a process reads: recorded from within, where `record` was called first."""

from __future__ import annotations

import atexit
import json
import os
from pathlib import Path
from typing import Any

from precis import params

FOLDER_VARIABLE = "PRECIS_PARAMS_READS"


def record() -> None:
    """Note every parameter that is read after `load_params`; at the end the names are left in a JSON file.

    The file lies in the folder that the environment names, under the process id. Parameters that leave as a
    whole with all of params.yaml, which a training run keeps for the record, count as not read.
    """
    reads: set[str] = set()
    paths: dict[int, str] = {}
    kept: list[params.Params] = []  # so that no id is used again
    load = params.load_params
    get_attribute = params.Section.__getattribute__
    model_dump = params.Section.model_dump

    def load_params(*arguments: Any, **options: Any) -> params.Params:
        loaded = load(*arguments, **options)
        kept.append(loaded)
        paths.update({id(section): path for section, path in _sections(loaded, "")})
        return loaded

    def noted(self: params.Section, name: str) -> Any:
        value = get_attribute(self, name)
        path = paths.get(id(self))
        if path is not None and name in type(self).model_fields and not isinstance(value, params.Section):
            reads.add(f"{path}.{name}".lstrip("."))
        return value

    def noted_dump(self: params.Section, **options: Any) -> dict[str, Any]:
        if path := paths.get(id(self)):
            reads.add(path)
        return model_dump(self, **options)

    params.load_params = load_params
    params.Section.__getattribute__ = noted  # type: ignore[method-assign,assignment]
    params.Section.model_dump = noted_dump  # type: ignore[method-assign,assignment]
    atexit.register(_leave, reads, Path(os.environ[FOLDER_VARIABLE]))


def _sections(section: params.Section, path: str) -> list[tuple[params.Section, str]]:
    found = [(section, path)]
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, params.Section):
            found += _sections(value, f"{path}.{name}".lstrip("."))
    return found


def _leave(reads: set[str], folder: Path) -> None:
    if reads:
        (folder / f"{os.getpid()}.json").write_text(json.dumps(sorted(reads)), encoding="utf-8")
