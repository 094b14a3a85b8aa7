from pathlib import Path

import pytest
from ruamel.yaml import YAML

from precis.errors import PrecisError
from precis.params import check_params, load_params

ROOT = Path(__file__).parents[1]


@pytest.fixture
def values():
    return YAML(typ="safe").load((ROOT / "params.yaml").read_text())


def problems_with(values) -> list[str]:
    with pytest.raises(PrecisError) as caught:
        check_params(values)
    first, *problems = str(caught.value).splitlines()
    assert first == "params.yaml cannot be used:"
    return [problem.strip() for problem in problems]


def test_the_params_of_the_project_can_be_used():
    load_params(ROOT / "params.yaml")


def test_every_problem_is_told_at_once_in_the_users_words(values):
    values["train"]["batch_size"] = -4
    values["train"]["learning_rate"] = "fast"
    del values["train"]["seed"]
    values["train"]["batchsize"] = 16
    assert sorted(problems_with(values)) == [
        "train.batch_size: Input should be greater than or equal to 1, found -4",
        "train.batchsize: unknown key",
        "train.learning_rate: Input should be a valid number, found 'fast'",
        "train.seed: missing",
    ]


def test_an_unknown_section_is_refused(values):
    values["trian"] = {}
    assert problems_with(values) == ["trian: unknown key"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "is not valid YAML"),
        ("just words", "expected sections such as `train:`, found 'just words'"),
        ("", "expected sections such as `train:`, found None"),
        ("a: 1\na: 2", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_params_file_is_told_in_one_message(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(PrecisError, match=r"params\.yaml") as caught:
        load_params(path)
    assert message in str(caught.value)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(PrecisError, match="run this from the root of the repository"):
        load_params(tmp_path / "params.yaml")
