"""Documents to try the demo page with."""

from __future__ import annotations

import hashlib
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from precis.errors import PrecisError

FROM_CORPUS = "From the corpus's test split"
OTHERS = "Other texts"
NUM_ROWS = 6
_MOST_ROWS_READ = 2000  # of the split: it may be large, and a page is opened at once
_USUAL_WORDS = range(25, 151)  # neither a line nor a chapter
_LEAST_LETTERS = 0.88  # of what is not white space: prose rather than tables
_TITLE = 60  # characters


@dataclass(frozen=True)
class Example:
    """A document to pick.

    Attributes:
        group: under which the page lists it.
        title: in the list.
        text: the document.
        reference: the summary that a person wrote; None where nobody did.
    """

    group: str
    title: str
    text: str
    reference: str | None = None


BUILT_IN = (
    Example(
        OTHERS,
        "A function's documentation",
        "Read the configuration of a project from `settings.toml` and check every value in it.\n\n"
        "The file is looked for in the current folder, and then in each of its parents. Unknown keys are reported "
        "together, with the nearest known key beside each. If the file is missing, the defaults of ProjectSettings are "
        "used; raises ConfigurationError if a value has the wrong type.",
    ),
    Example(
        OTHERS,
        "An e-mail",
        "Hi Marta,\n\nThe venue in Lisbon has confirmed that we can move the partners' workshop from Tuesday to "
        "Thursday, same room, same price. They need our final number of guests by Friday noon, otherwise the larger "
        "hall goes to somebody else. Could you ask Jonas and the Porto office whether Thursday works for them, and "
        "tell me the number tomorrow? The hotel bookings can still be changed free of charge.\n\nThanks,\nIsabel",
    ),
    Example(
        OTHERS,
        "A piece of news",
        "The town council of Brannick voted on Monday to close Harbour Street to cars at weekends, after a trial last "
        "summer that shops had first opposed. Sales in the street rose by 8 percent during the trial, according to "
        "the chamber of commerce, while traffic on the ring road grew by less than 2 percent. Buses will run every ten "
        "minutes from two new car parks. The rule takes effect on the first of May and will be reviewed in a year.",
    ),
)


def examples_of(test_split: Path | None) -> list[Example]:
    """Some rows of a prepared split, always the same ones, and a few texts that every installation has.

    Args:
        test_split: data/prepared/test.parquet; None: there is none.

    Raises:
        PrecisError: it cannot be read.
    """
    return [*([] if test_split is None else _rows(test_split)), *BUILT_IN]


def _rows(path: Path) -> list[Example]:
    columns = ["id", "document", "summary"]
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=_MOST_ROWS_READ, columns=columns)
        rows = next(batches, pa.RecordBatch.from_pylist([])).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise PrecisError(
            f"{path} cannot be read as a prepared split, a Parquet file with {', '.join(columns)}: {error}"
        ) from error
    if rows and set(columns) - rows[0].keys():
        raise PrecisError(f"{path} has no column {', '.join(sorted(set(columns) - rows[0].keys()))}")
    usual = [row for row in rows if _is_usual(row["document"])] or rows
    # in the order of a hash, so that neighbours, which are often alike, do not come together
    usual.sort(key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest())
    return [
        Example(FROM_CORPUS, _title(row["document"]), row["document"], row["summary"])
        for row in usual[:NUM_ROWS]
    ]


def _is_usual(document: str) -> bool:
    words = document.split()
    marks = "".join(words)
    return len(words) in _USUAL_WORDS and sum(map(str.isalpha, marks)) >= _LEAST_LETTERS * len(marks)


def _title(text: str) -> str:
    return textwrap.shorten(text, _TITLE, placeholder=" …")
