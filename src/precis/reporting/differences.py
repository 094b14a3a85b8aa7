"""Two systems' summaries of the same documents, side by side."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from precis.errors import PrecisError
from precis.evaluation.significance import Difference, paired_difference
from precis.reporting.charts import WIDTH, Chart, Palette, chart, new_figure
from precis.reporting.comparison import p_value
from precis.reporting.page import render
from precis.reporting.reading import LONGEST_DOCUMENT, Piece
from precis.reporting.systems import System, scored_rows, select_rows, signature_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class Compared:
    """Two systems on the documents that both summarized.

    Attributes:
        ids: of the documents, in the order of A's file.
        signature: the ROUGE convention.
        changes: ROUGE of B less ROUGE of A by document, by metric.
        differences: the means of the changes with intervals, by metric.
    """

    ids: list[str]
    signature: str | None
    changes: dict[str, list[float]]
    differences: dict[str, Difference]

    @property
    def metrics(self) -> dict[str, float]:
        """The differences as flat numbers, as MLflow takes them."""
        flat: dict[str, float] = {}
        for name, difference in self.differences.items():
            flat |= {
                f"difference_{name}": difference.mean,
                f"difference_{name}_low": difference.low,
                f"difference_{name}_high": difference.high,
                f"difference_{name}_p": difference.p_value,
            }
        return flat


@dataclass(frozen=True)
class _Pair:
    id: str
    change: float
    document: str | None
    is_cut: bool
    references: Sequence[str]
    a: list[Piece]
    b: list[Piece]
    rouge_a: dict[str, float]
    rouge_b: dict[str, float]


def compare_documents(a: System, b: System, *, resamples: int, confidence: float, seed: int) -> Compared:
    """Compare two systems by document.

    Raises:
        PrecisError: they summarized no document in common, or were scored by different conventions.
    """
    signature = signature_of([a, b])
    rows_a, rows_b = scored_rows(a), scored_rows(b)
    place_b = {row_id: place for place, row_id in enumerate(rows_b.ids)}
    common = [(place, place_b[row_id]) for place, row_id in enumerate(rows_a.ids) if row_id in place_b]
    if not common:
        raise PrecisError(
            f"{a.directory} and {b.directory} have no document in common: evaluate both on the same test split"
        )
    places = np.array(common)
    changes, differences = {}, {}
    for name in METRICS:
        values_a, values_b = rows_a.of(name)[places[:, 0]], rows_b.of(name)[places[:, 1]]
        changes[name] = (values_b - values_a).tolist()
        differences[name] = paired_difference(
            values_a, values_b, resamples=resamples, confidence=confidence, seed=seed
        )
    return Compared([rows_a.ids[place] for place, _ in common], signature, changes, differences)


def comparison_page(
    a: System,
    b: System,
    compared: Compared,
    documents: dict[str, str],
    *,
    chosen: Sequence[str],
    confidence: float,
) -> str:
    """The page: numbers, then the chosen documents, those that got worst first.

    Args:
        a: the system that was there before.
        b: the one that would replace it.
        compared: both of them.
        documents: texts by id; a document may be absent.
        chosen: ids of the documents to show.
        confidence: of the intervals.
    """
    rows_a, rows_b = select_rows(a, set(chosen)), select_rows(b, set(chosen))
    change = dict(zip(compared.ids, compared.changes["rouge1"], strict=True))
    pairs = []
    for row_id in chosen:
        old, new = rows_a[row_id], rows_b[row_id]
        pieces_a, pieces_b = differing_words(old["summary"], new["summary"])
        text = documents.get(row_id)
        pairs.append(
            _Pair(
                id=row_id,
                change=change[row_id],
                document=None if text is None else text[:LONGEST_DOCUMENT],
                is_cut=text is not None and len(text) > LONGEST_DOCUMENT,
                references=_references(old) or _references(new),
                a=pieces_a,
                b=pieces_b,
                rouge_a=old["rouge"],
                rouge_b=new["rouge"],
            )
        )
    changes = np.array(compared.changes["rouge1"])
    means_a, means_b = (_means(system, compared) for system in (a, b))
    return render(
        "compare.html.j2",
        a=a,
        b=b,
        differences=compared.differences,
        signature=compared.signature,
        num_documents=len(compared.ids),
        num_better=int((changes > 0).sum()),
        num_worse=int((changes < 0).sum()),
        confidence=confidence,
        means_a=means_a,
        means_b=means_b,
        p_value=p_value,
        chart=change_chart(compared.changes["rouge1"]),
        pairs=pairs,
    )


def _means(system: System, compared: Compared) -> dict[str, float]:
    """Mean ROUGE of the documents that both summarized."""
    rows = scored_rows(system)
    common = np.isin(rows.ids, compared.ids)
    return {name: float(rows.of(name)[common].mean()) for name in METRICS}


def change_chart(changes: Sequence[float]) -> Chart:
    """How many documents gained or lost how much."""
    values = np.asarray(changes, dtype=np.float64)
    largest = max(float(np.abs(values).max(initial=0.0)), 1.0)

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 2.8)
        axes = figure.subplots()
        edges = np.linspace(-largest, largest, 42)  # an odd number of bars: one of them is about 0
        numbers, _ = np.histogram(values, edges)
        middles = (edges[:-1] + edges[1:]) / 2
        half = (edges[1] - edges[0]) / 2
        colours = [
            palette.muted if abs(middle) < half else palette.series[2 if middle > 0 else 4]
            for middle in middles
        ]
        axes.bar(middles, numbers, width=1.8 * half, color=colours)
        axes.axvline(values.mean(), color=palette.ink, linestyle="--", linewidth=1)
        axes.set(
            title="Change of ROUGE-1 by document",
            xlabel="points gained, or lost if negative (dashed: the mean)",
            ylabel="documents",
        )
        return figure

    return chart("how many documents gained or lost how much ROUGE-1", draw)


def worst_first(compared: Compared, number: int) -> list[str]:
    """Ids of documents to show: those that lost most ROUGE-1, worst first, and then those that gained most."""
    changes = np.array(compared.changes["rouge1"])
    in_order = np.argsort(changes, kind="stable")
    worse = [place for place in in_order.tolist() if changes[place] < 0][: number // 2]
    better = [place for place in in_order[::-1].tolist() if changes[place] > 0][: number - len(worse)]
    return [compared.ids[place] for place in [*worse, *better]]


def differing_words(a: str, b: str) -> tuple[list[Piece], list[Piece]]:
    """Two texts in pieces: those of A that are gone in B have the origin `gone`, those new in B `new`."""
    words_a, words_b = _words(a), _words(b)
    pieces_a, pieces_b = [], []
    matcher = difflib.SequenceMatcher(a=words_a, b=words_b, autojunk=False)
    for kind, from_a, to_a, from_b, to_b in matcher.get_opcodes():
        old, new = "".join(words_a[from_a:to_a]), "".join(words_b[from_b:to_b])
        if old:
            pieces_a.append(Piece(old, None if kind == "equal" else "gone"))
        if new:
            pieces_b.append(Piece(new, None if kind == "equal" else "new"))
    return pieces_a, pieces_b


def _words(text: str) -> list[str]:
    """Words with the white space after them: joined, they are the text."""
    words: list[str] = []
    for part in text.split(" "):
        words.append(part + " ")
    if words:
        words[-1] = words[-1][:-1]
    return [word for word in words if word]


def _references(row: dict[str, Any]) -> list[str]:
    return list(row.get("references", []))
