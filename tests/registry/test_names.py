"""Names that climb, break a query, or never end: one message each, and nothing outside is read."""

import json

import pytest

from precis.commands.recipe import recipe_file
from precis.errors import PrecisError
from precis.params import check_params, load_params
from precis.registry.resolve import answer_in, resolve

NAMES = [
    "..", "../../etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "\x1b[31m", "x" * 10_000, "' OR 1=1 --", '"', "%", "²",
    "9" * 5_000,
    "", " ", "\u202e", "\ud800", "/dev/zero", "/dev/stdin\0", "champion@", "@" * 300, "~", "{7*7}",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_model_by_a_hostile_name_is_not_found(client, name):
    for uri in (
        name,
        f"models:/{name}",
        f"models:/{name}@champion",
        f"models:/precis@{name}",
        f"models:/{name}/1",
        f"runs:/{name}",
    ):
        with pytest.raises(PrecisError) as error:
            resolve(client, uri, "precis")
        assert "root:" not in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_recipe_by_a_hostile_name_is_not_found(name):
    with pytest.raises(PrecisError):
        recipe_file(name)


def test_a_summary_file_of_anything_is_refused_or_names_no_answer(tmp_path):
    path = tmp_path / "summary.json"
    for value in (
        [],
        [1],
        None,
        1,
        "x",
        {},
        {"summary_id": "../.."},
        {"summary_id": 10**50},
        {"predictions": []},
        {"predictions": {}},
    ):
        path.write_text(json.dumps(value))
        try:
            answer, _ = answer_in(str(path))
        except PrecisError:
            continue
        assert answer is None


@pytest.mark.parametrize("name", ["..", "a/b", "a:b", "a\0b", "\x1b[31m", "x" * 101, "", " a", "a\n"])
def test_a_registered_model_has_a_plain_name(name, request):
    values = load_params(request.config.rootpath / "params.yaml").model_dump(mode="json")
    values["registry"]["name"] = name
    with pytest.raises(PrecisError, match=r"registry\.name"):
        check_params(values)
