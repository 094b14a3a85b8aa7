from pathlib import Path

import pytest

from precis.corpora.docstrings import SourceFile, Wanted, mine, read_docstrings, required_distributions

ALL = Wanted(min_summary_words=3, max_summary_words=20, min_document_words=5, min_overlap=0.0)

SOURCE = '''"""Read tables of numbers.

A table is a file in which each line holds the numbers of a row.
"""
print("never run when it is mined")
raise SystemExit


class Table:
    """Hold the rows of a table.

    The rows are lists of numbers, and all of them are equally long.
    """

    def load(self):
        """Load all of it
        without a blank line the summary is no line of its own.
        """

    def save(self):
        """Too short."""

    def words(self):
        """Compute the frobnication of things.

        Only remarks that share nothing with what stands above them here.
        """
'''


@pytest.fixture
def source_file(tmp_path) -> SourceFile:
    path = tmp_path / "tables.py"
    path.write_text(SOURCE)
    return SourceFile("package/tables.py", path)


def test_a_pair_is_a_summary_line_and_what_follows_it(source_file):
    module, table, words = mine(source_file, ALL)
    assert module.id == "package/tables.py:module"
    assert module.summary == "Read tables of numbers."
    assert module.document == "A table is a file in which each line holds the numbers of a row."
    assert table.id == "package/tables.py:Table"
    assert words.id == "package/tables.py:Table.words"
    assert {row.group for row in (module, table, words)} == {"package/tables.py"}


def test_a_summary_that_its_document_says_little_of_is_left_out(source_file):
    wanted = Wanted(min_summary_words=3, max_summary_words=20, min_document_words=5, min_overlap=0.5)
    # "hold", "rows", "table": the document has one of three; "read", "tables", "numbers": one of three
    assert [row.id for row in mine(source_file, wanted)] == []
    wanted = Wanted(min_summary_words=3, max_summary_words=20, min_document_words=5, min_overlap=0.3)
    assert [row.id for row in mine(source_file, wanted)] == [
        "package/tables.py:module",
        "package/tables.py:Table",
    ]


def test_what_is_mined_are_the_run_time_requirements():
    names = {required.metadata["Name"].lower() for required in required_distributions("precis")}
    assert {"torch", "mlflow", "prefect", "sympy", "dvc"} <= names
    assert not {"precis", "pytest", "hypothesis", "ruff", "mypy", "keras"} & names


@pytest.mark.slow
def test_the_environment_gives_the_same_pairs_twice_and_no_path_of_the_machine():
    first, second = (list(read_docstrings("precis", ALL)) for _ in range(2))
    assert first == second
    assert len(first) > 40_000
    home = str(Path(__file__).parents[2])
    assert not any(home in row.id or home in row.document or home in row.summary for row in first)
