"""Which first lines of docstrings are summaries."""

import pytest

from precis.corpora.docstrings import required_distributions, split_docstring


def test_the_summary_is_one_line_before_a_blank_one():
    assert split_docstring("Do it.\n\n    More text.\n      Indented.") == (
        "Do it.",
        "More text.\n  Indented.",
    )
    assert split_docstring("Do it in\ntwo lines.\n\nMore text.") is None
    assert split_docstring("Do it.") is None


@pytest.mark.parametrize(
    "summary",
    [
        *("array(object, dtype=None)", ".. deprecated:: 1.3", ">>> f(1)", ":func:`f` is here"),
        *("Parameters", "Alias for `f`.", "----", "42"),
    ],
)
def test_noise_is_no_summary(summary):
    assert split_docstring(f"{summary}\n\nA body of some words.") is None


def test_the_packages_are_those_that_precis_needs_at_run_time():
    names = [distribution.metadata["Name"].lower() for distribution in required_distributions("precis")]
    assert {"torch", "mlflow", "sympy", "numpy"} <= set(names)
    assert not {"precis", "pytest", "hypothesis", "ruff", "mypy"} & set(names)
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]
