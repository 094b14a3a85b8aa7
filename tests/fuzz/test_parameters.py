"""Fuzzed params.yaml and vocabulary files: read, or refused with one message."""

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from precis.corpora.overrides import load_yaml
from precis.errors import PrecisError
from precis.params import load_params
from precis.text.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text()
LINES = TEXT.splitlines(keepends=True)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=3),
    st.sampled_from([10**400, "!!python/object/apply:os.system [true]", "*x"]),
    st.sampled_from(["&x [*x]", "${train.seed}", "\0", "1e999"]),
)  # fmt: skip


def leaves(values, prefix=()):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key)


LEAVES = list(leaves(YAML(typ="safe").load(TEXT)))


def read(path):
    """Either all of it, or one message."""
    try:
        load_params(path)
    except PrecisError as error:
        assert str(error) and len(str(error)) < 20_100


@RELAXED
@given(st.lists(st.tuples(st.sampled_from(LEAVES), SCALARS), min_size=1, max_size=3))
def test_any_value_for_any_parameter(tmp_path_factory, changes):
    values = YAML(typ="safe").load(TEXT)
    for keys, value in changes:
        part = values
        for key in keys[:-1]:
            part = part[key] if isinstance(part[key], dict) else part
        part[keys[-1]] = value
    path = tmp_path_factory.mktemp("p") / "params.yaml"
    try:
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(values, file)
    except (UnicodeEncodeError, ValueError):
        return  # YAML cannot write it, so nobody can
    read(path)


@RELAXED
@given(st.integers(0, len(TEXT) - 1), st.integers(0, 60), st.text(max_size=10))
def test_any_edit_of_the_text(tmp_path_factory, start, length, new):
    path = tmp_path_factory.mktemp("p") / "params.yaml"
    path.write_bytes((TEXT[:start] + new + TEXT[start + length :]).encode("utf-8", "surrogatepass"))
    read(path)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch executed']",
        "a: &a [" + "*a, " * 3 + "]",
        "[" * 1_200,
        "a: " * 1_200,
        "\x00",
        "\ufeff" + TEXT,
        TEXT + TEXT,
        "x" * 1_000_000,
        "a: &a [x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghij")),
    ],
    ids=["object", "alias", "nested", "keys", "nul", "mark", "twice", "long", "laughs"],
)
@pytest.mark.timeout(60)
def test_yaml_that_is_made_to_hurt(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    read(path)
    with suppress(PrecisError):
        load_yaml(path)
    assert not (tmp_path / "executed").exists()


@RELAXED
@given(
    st.binary(max_size=200) | st.text(alphabet="<pad>unks/\t\n\r0123456789a\u0661\x85\u2028", max_size=200)
)
def test_any_vocabulary_file(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("v") / "shared.txt"
    head = "".join(f"{word}\t0\t{word}\n" for word in ("<pad>", "<unk>", "<s>", "</s>"))
    path.write_bytes(head.encode() + (content if isinstance(content, bytes) else content.encode()))
    try:
        vocabulary = Vocabulary.load(path)
    except PrecisError as error:
        assert "shared.txt" in str(error)
        return
    for id_ in range(len(vocabulary)):
        assert vocabulary.id(vocabulary.word(id_)) == id_
        assert vocabulary.count(id_) >= 0 and isinstance(vocabulary.surface(id_), str)
