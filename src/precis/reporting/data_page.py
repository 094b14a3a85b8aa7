"""The page about the data: what was set aside and why, how long texts are, what a model could write at best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from precis.errors import PrecisError
from precis.files import atomic_path
from precis.reporting.charts import WIDTH, Chart, Palette, chart, new_figure
from precis.reporting.page import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLITS = ("train", "validation", "test")
_LONGEST_SHOWN = 600  # characters of a document


def write_data_page(reports: Path, prepared: Path, page: Path, *, num_samples: int) -> None:
    """Write the page from what `prepare`, `vocabulary` and `baselines` reported.

    Args:
        reports: where data_checks.json, vocabulary.json and, once it is there, baselines/ are.
        prepared: the folder of the splits, for samples.
        page: the HTML file to write.
        num_samples: rows to show, of those kept and of those set aside.
    """
    checks, vocabulary = (_load(reports / name) for name in ("data_checks.json", "vocabulary.json"))
    html = render(
        "data.html.j2",
        checks=checks,
        vocabulary=vocabulary,
        splits=SPLITS,
        failures=_failures(checks),
        copies=_copies(checks),
        extremes=_extremes(reports / "baselines"),
        charts=[
            ("How long the texts are", length_chart(checks["lengths"])),
            ("What was set aside", reason_chart(_failures(checks))),
            ("Copies", copy_chart(_copies(checks))),
            ("What a vocabulary lets a model write", reach_chart(vocabulary)),
        ],
        samples=_first_rows(prepared / "test.parquet", num_samples),
        set_aside=_first_rows(prepared / "quarantine.parquet", num_samples),
    )
    with atomic_path(page) as temporary:
        temporary.write_text(html, encoding="utf-8")


def length_chart(lengths: Mapping[str, Any]) -> Chart:
    """Documents and summaries of each split by their number of words."""

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 4.4)
        for axes, kind in zip(figure.subplots(2, 1), ("document", "summary"), strict=True):
            for number, split in enumerate(SPLITS):
                histogram = lengths[split][kind]["histogram"]
                total = sum(histogram["texts"]) or 1
                words = [place * histogram["bin_words"] for place in range(len(histogram["texts"]))]
                shares = [texts / total / histogram["bin_words"] for texts in histogram["texts"]]
                axes.plot(words, shares, color=palette.series[number], label=split, drawstyle="steps-post")
            axes.set_title({"document": "documents", "summary": "summaries"}[kind])
            axes.set_xlabel("words")
            axes.set_ylabel("share of texts")
            axes.set_yticks([])
            axes.legend()
        return figure

    return chart("documents and summaries of each split by their number of words", draw)


def reason_chart(failures: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Rows by reason; None when there are none."""
    if not failures:
        return None

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 0.9 + 0.3 * len(failures))
        axes = figure.subplots()
        names = [failure["reason"].replace("_", " ") for failure in reversed(failures)]
        numbers = [failure["rows"] for failure in reversed(failures)]
        axes.barh(names, numbers, color=palette.series[0])
        for place, number in enumerate(numbers):
            axes.text(number, place, f" {number:,}", va="center")
        axes.margins(x=0.14)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("rows")
        return figure

    return chart("rows that were set aside, by reason", draw)


def copy_chart(copies: Sequence[tuple[str, int, int | None]]) -> Chart:
    """Exact copies and near ones, inside splits and across them."""

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 1.2 + 0.4 * len(copies))
        axes = figure.subplots()
        places = range(len(copies))
        ordered = copies[::-1]
        exact = [number for _, number, _ in ordered]
        near = [number or 0 for _, _, number in ordered]
        axes.barh(
            [place + 0.2 for place in places], exact, 0.35, color=palette.series[0], label="the same words"
        )
        axes.barh(
            [place - 0.2 for place in places], near, 0.35, color=palette.series[1], label="nearly the same"
        )
        axes.set_yticks(list(places), [name for name, _, _ in ordered])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("rows")
        figure.legend(loc="outside lower center", ncols=2)
        return figure

    return chart("copies inside splits and across them", draw)


def reach_chart(vocabulary: Mapping[str, Any]) -> Chart:
    """Of the words of the test summaries: generated, only copied, or neither, by the size of the vocabulary."""
    by_size = vocabulary["splits"]["test"]["by_size"]
    sizes = [reach["vocabulary_size"] for reach in by_size]
    parts = [[reach[part] for reach in by_size] for part in ("generated", "copied_only", "neither")]

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 3.6)
        axes = figure.subplots()
        colours = [palette.series[0], palette.series[2], palette.series[1]]
        axes.stackplot(
            sizes, parts, labels=["generated", "only copied", "neither"], colors=colours, alpha=0.85
        )
        axes.axvline(vocabulary["target_vocabulary_size"], color=palette.ink, linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
        axes.minorticks_off()
        axes.set_xlabel("words in the vocabulary (dashed: chosen)")
        axes.set_ylabel("share of the summaries' words")
        axes.set_ylim(0, 1)
        figure.legend(loc="outside lower center", ncols=3)
        return figure

    return chart("words of the test summaries that a model can generate or copy, by vocabulary size", draw)


def _failures(checks: Mapping[str, Any]) -> list[dict[str, Any]]:
    failures = []
    for check, found in checks["checks"].items():
        for reason, counts in found["reasons"].items():
            failures.append(
                {
                    "check": check,
                    "reason": reason,
                    "rows": sum(counts["set_aside"].values()) + sum(counts["reported"].values()),
                    "set_aside": sum(counts["set_aside"].values()),
                    "by_split": {s: counts["set_aside"][s] + counts["reported"][s] for s in SPLITS},
                    "max_share": found["max_share"],
                    "examples": counts["examples"],
                }
            )
    return sorted(failures, key=lambda failure: -failure["rows"])


def _copies(checks: Mapping[str, Any]) -> list[tuple[str, int, int | None]]:
    """What is copied where, exactly and nearly; None where near copies were not looked for."""
    duplicates = checks["duplicate_documents"]
    rows = [(f"again in {split}", duplicates[split], duplicates.get(f"near_{split}")) for split in SPLITS]
    for name, exact in checks["copies_across_splits"].items():
        rows.append((name.replace("_", " "), exact, checks["near_copies_across_splits"].get(name)))
    return rows


def _extremes(baselines: Path) -> list[tuple[str, dict[str, float]]]:
    """ROUGE of what needs no model, between which a model should be; empty before `baselines` has run."""
    return [
        (path.parent.name, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(baselines.glob("*/metrics.json"))
    ]


def _first_rows(path: Path, number: int) -> list[dict[str, Any]]:
    with pq.ParquetFile(str(path), pre_buffer=False) as file:
        batch = next(file.iter_batches(batch_size=max(1, number)), None)
    rows: list[dict[str, Any]] = [] if batch is None else batch.to_pylist()[:number]
    for row in rows:
        document = row["document"] or ""
        row["shown"] = document if len(document) <= _LONGEST_SHOWN else f"{document[:_LONGEST_SHOWN]}…"
    return rows


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(f"{path} not found: run `dvc repro vocabulary` first") from error
