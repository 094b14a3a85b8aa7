"""Fuzzed corpora: no exception but ours, every row accounted for. `soak.py` does the same with 100,000 rows."""

import random
from pathlib import Path

import pytest
from fuzzed_pipeline import FORMATS, check_tokens, outcome, write
from rows import PIECES, Rows

from precis.text.tokenizer import Tokenizer

CASES = sorted((Path(__file__).parent / "cases").iterdir())


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_that_are_nearly_right_are_kept_or_set_aside(tmp_path, suffix):
    kept = 0
    for seed in range(2):
        path = tmp_path / f"corpus{seed}.{suffix}"
        write(path, Rows(seed), 250)
        found = outcome(path, tmp_path / "work")
        if suffix == "csv" or suffix == "tsv":
            kept += found.get("kept", 0)
            continue  # a quote that never closes refuses the file
        assert found.get("kept", 0) > 20, found
        assert found["reasons"].total() > 20
        kept += found["kept"]
    assert kept > 0


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_with_damaged_bytes_are_read_or_refused(tmp_path, suffix):
    rows = Rows(99)
    path = tmp_path / f"corpus.{suffix}"
    write(path, rows, 40)
    whole = path.read_bytes()
    for _ in range(12):
        path.write_bytes(rows.damaged(whole))
        outcome(path, tmp_path / "work")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_what_was_found_before_stays_mended(tmp_path, path):
    outcome(path, tmp_path / "work")


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_tokenizer_keeps_its_promises_for_any_text(lowercase):
    generator = random.Random(5)
    tokenizer = Tokenizer(lowercase)
    for _ in range(400):
        pieces = generator.choices(PIECES, k=generator.randint(1, 12))
        letters = [chr(generator.randrange(0x20, 0x3000)) for _ in range(5)]
        check_tokens(tokenizer, "".join(generator.sample([*pieces, *letters], k=len(pieces) + 5)))
