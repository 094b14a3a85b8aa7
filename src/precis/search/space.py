"""The space of a search: for each parameter the values that may be tried, written like params.yaml."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from precis.corpora.overrides import load_yaml, merge, plain
from precis.errors import PrecisError
from precis.params import check_params

# what decides over a model; decoding is chosen for each trial, and the corpus is what they are compared on
SECTIONS = ("text", "vocabulary", "encode", "model", "train")
_RANGE = {"low", "high", "step", "log"}
_HOW = "expected a list of values, or low and high, with step or log: true if you like"

Space = dict[str, BaseDistribution]


def load_space(path: Path, values: Any) -> Space:
    """Read a file of values to try.

    Args:
        path: sections and keys of params.yaml, each key with a list of values or a range.
        values: params.yaml as `load_yaml` gives it.

    Returns:
        A distribution for each `section.key`.

    Raises:
        PrecisError: something in it cannot be tried; the message names every problem at once.
    """
    loaded = plain(load_yaml(path))
    if not isinstance(loaded, dict) or not loaded:
        raise PrecisError(f"{path} is no search space: expected sections of params.yaml with values to try")
    space: Space = {}
    problems = []
    for name, values_to_try in _leaves(loaded):
        try:
            space[name] = _distribution(values_to_try)
            if name.split(".")[0] not in SECTIONS:
                raise ValueError(f"only {', '.join(SECTIONS)} can be searched")
            for value in _extremes(space[name]):
                with_values(values, {name: value}, f"with {value}")
        except (ValueError, PrecisError) as error:
            problems.append(f"  {name}: {_one_line(error)}")
    if problems:
        raise PrecisError("\n".join([f"{path} cannot be searched:", *problems]))
    return space


def with_values(values: Any, chosen: Mapping[str, Any], where: str = "params.yaml") -> Any:
    """params.yaml with some of its values changed; raises PrecisError when they do not go together."""
    changed = copy.deepcopy(values)
    merge(changed, nested(chosen))
    check_params(plain(changed), where)
    return changed


def nested(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """`section.key` as sections with keys."""
    found: dict[str, Any] = {}
    for name, value in chosen.items():
        *sections, key = name.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return found


def _leaves(loaded: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in loaded.items():
        name = f"{where}.{key}".lstrip(".")
        # a mapping is a section, until it has what a range has
        if isinstance(value, Mapping) and value and not _RANGE & set(value):
            yield from _leaves(value, name)
        else:
            yield name, value


def _distribution(value: Any) -> BaseDistribution:
    if isinstance(value, list):
        if len(value) < 2 or any(isinstance(one, list | dict) for one in value):
            raise ValueError(f"found {value!r}; {_HOW}")
        return CategoricalDistribution(value)
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) <= _RANGE:
        raise ValueError(f"found {value!r}; {_HOW}")
    low, high, step, log = value["low"], value["high"], value.get("step"), value.get("log", False)
    numbers = [number for number in (low, high, step) if number is not None]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise ValueError(f"found {value!r}; low, high and step are numbers")
    if not low < high:
        raise ValueError(f"low {low} is not below high {high}")
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(low, high, log=log, step=1 if step is None else step)
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _extremes(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(lines)
