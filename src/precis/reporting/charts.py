"""Charts as SVG data URIs: they load nothing, run nothing, and are the same bytes for the same numbers.

Each is drawn twice, for light and for dark pages.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.6  # inches: narrow enough to be read on a telephone
MOST_SOURCE_WORDS = 40  # of a heat map


@dataclass(frozen=True)
class Palette:
    """The colours of a chart.

    Attributes:
        ink: of titles and values.
        soft: of ticks and labels.
        line: of axes; `grid` of what is behind the data.
        paper: behind everything.
        muted: of what is there to compare with.
        series: of one thing after the other; `series[0]` stands out most.
        least, most: ends of a scale of weights.
    """

    ink: str
    soft: str
    line: str
    grid: str
    paper: str
    muted: str
    series: tuple[str, ...]
    least: str
    most: str


LIGHT = Palette(
    ink="#1c232b",
    soft="#4b5560",
    line="#9aa3ad",
    grid="#e6e9ed",
    paper="#ffffff",
    muted="#aab3bd",
    series=("#2f6db3", "#d9822b", "#2c8c72", "#8a5fb0", "#b5495b", "#8a7a12", "#4aa3c7", "#6b7280"),
    least="#f3f6fa",
    most="#0b3d78",
)
DARK = Palette(
    ink="#e6eaef",
    soft="#b3bcc6",
    line="#5b6570",
    grid="#2a323b",
    paper="#1b2129",
    muted="#6d7782",
    series=("#6fa8e8", "#f0a35a", "#5cc4a4", "#b692dc", "#e07f90", "#d4c25a", "#7fcbe8", "#a0aab5"),
    least="#222a33",
    most="#a9d1ff",
)


@dataclass(frozen=True)
class Chart:
    """One drawing for light pages and one for dark ones, as data URIs, with what to tell who cannot see it."""

    light: str
    dark: str
    alt: str


def chart(alt: str, draw: Callable[[Palette], Figure]) -> Chart:
    """Have a chart drawn in the colours of light and of dark pages."""
    light, dark = (_uri(svg_bytes(draw, palette)) for palette in (LIGHT, DARK))
    return Chart(light, dark, alt)


def svg_bytes(draw: Callable[[Palette], Figure], palette: Palette) -> bytes:
    """The drawing as SVG, without a date."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(_style(palette)):
        draw(palette).savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no window system hears of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, str]]]) -> Chart | None:
    """Training and validation loss of each model by update; None when there is nothing to draw."""
    curves = {
        name: {
            column: [
                (float(row["step"]), float(row[column])) for row in rows if row.get(column) not in (None, "")
            ]
            for column in ("train_loss", "validation_loss")
        }
        for name, rows in histories.items()
    }
    curves = {name: curve for name, curve in curves.items() if any(curve.values())}
    if not curves:
        return None

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 3.3)
        axes = figure.subplots()
        for number, (name, curve) in enumerate(curves.items()):
            colour = palette.series[number % len(palette.series)]
            if curve["train_loss"]:
                axes.plot(*zip(*curve["train_loss"], strict=True), color=colour, alpha=0.4, linewidth=1)
            if curve["validation_loss"]:
                points = list(zip(*curve["validation_loss"], strict=True))
                axes.plot(*points, color=colour, marker="o", markersize=4, linewidth=1.8, label=name)
            else:
                axes.plot([], [], color=colour, label=name)
        axes.set(
            title="Loss: validation (points) and training (thin)",
            xlabel="updates",
            ylabel="−log P of a word",
        )
        axes.legend()
        return figure

    return chart("training and validation loss of the models", draw)


def score_bars(rows: Sequence[tuple[str, float, float, float, bool]]) -> Chart:
    """ROUGE-1 with intervals: rows of name, mean, low, high, and whether it is a baseline."""

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 0.7 + 0.38 * len(rows))
        axes = figure.subplots()
        places = range(len(rows))
        means = [mean for _, mean, _, _, _ in rows]
        # where all documents score alike, rounding can put the mean outside its interval by the last digit
        below = [max(mean - low, 0.0) for _, mean, low, _, _ in rows]
        above = [max(high - mean, 0.0) for _, mean, _, high, _ in rows]
        colours = [palette.muted if is_baseline else palette.series[0] for *_, is_baseline in rows]
        axes.barh(
            places, means, xerr=[below, above], color=colours, height=0.66, error_kw={"ecolor": palette.ink}
        )
        axes.set_yticks(list(places), [name for name, *_ in rows])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        for place, mean, high in zip(places, means, (row[3] for row in rows), strict=True):
            axes.annotate(
                f"{mean:.1f}",
                (max(mean, high), place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color=palette.ink,
            )
        axes.margins(x=0.12)
        axes.set_title("ROUGE-1 with its interval")
        return figure

    return chart("ROUGE-1 of all systems with intervals", draw)


def length_chart(ranges: Sequence[str], rows: Sequence[tuple[str, Sequence[str], bool]]) -> Chart | None:
    """ROUGE-1 by length of the document, of rows of name, values and whether it is a baseline.

    None with fewer than two ranges.
    """
    if len(ranges) < 2:
        return None

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 3.3)
        axes = figure.subplots()
        num_models = num_baselines = 0
        for name, cells, is_baseline in rows:
            how: dict[str, Any]
            if is_baseline:
                dashes = ((1, 1), (3, 1.5), (6, 2), (6, 2, 1, 2))[num_baselines % 4]
                how = {"color": palette.muted, "linestyle": (0, dashes), "linewidth": 1.4}
                num_baselines += 1
            else:
                how = {"color": palette.series[num_models % len(palette.series)], "linewidth": 2}
                num_models += 1
            axes.plot(
                range(len(ranges)), list(map(float, cells)), marker="o", markersize=4, label=name, **how
            )
        axes.set_xticks(range(len(ranges)), ranges)
        axes.set_xlim(-0.25, len(ranges) - 0.75)
        axes.set_ylim(bottom=0)
        axes.set(title="ROUGE-1 by length of the document", xlabel="words of the document (documents)")
        figure.legend(loc="outside lower center", ncols=4, fontsize=9)
        return figure

    return chart("ROUGE-1 by length of the document", draw)


def heat_map(attention: Mapping[str, Any], alt: str) -> Chart:
    """Attention of one summary: its words down, the document's words across, p_gen at the side.

    Only the document's words that get most attention are shown, in their order, at most MOST_SOURCE_WORDS; a
    dotted line stands where others are left out.
    """
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    weights = np.asarray(attention["attention"], dtype=np.float64)
    source = attention["source"]
    heaviest = np.argsort(-weights.max(axis=0), kind="stable")[:MOST_SOURCE_WORDS]
    shown = np.sort(heaviest)
    gaps = [place + 0.5 for place, step in enumerate(np.diff(shown).tolist()) if step > 1]
    p_gen = [value for value in attention["p_gen"] if value is not None]

    def draw(palette: Palette) -> Figure:
        num_words, num_shown = len(weights), len(shown)
        figure = new_figure(3.0 + 0.2 * num_shown, 1.9 + 0.27 * num_words)
        colours = LinearSegmentedColormap.from_list("weights", [palette.least, palette.most])
        if p_gen:
            axes, side = figure.subplots(1, 2, width_ratios=[0.2 * num_shown, 1.0])
            side.barh(range(len(p_gen)), p_gen, color=palette.series[1], height=0.7)
            side.set(xlim=(0, 1), ylim=(num_words - 0.5, -0.5), xticks=[0, 1], yticks=[], title="p_gen")
            side.set_xlabel("0: copies\n1: generates", fontsize=8)
        else:
            axes = figure.subplots()
        image = axes.imshow(
            weights[:, shown], aspect="auto", cmap=colours, vmin=0, vmax=1, interpolation="nearest"
        )
        axes.grid(visible=False)
        axes.vlines(gaps, -0.5, num_words - 0.5, color=palette.line, linestyle=":", linewidth=0.8)
        axes.set_yticks(range(num_words), [_short(word) for word in attention["summary"]], fontsize=9)
        axes.set_xticks(range(num_shown), [_short(source[place]) for place in shown], rotation=90, fontsize=8)
        axes.tick_params(length=0)
        axes.set(xlabel="words of the document", ylabel="words of the summary")
        figure.colorbar(image, ax=axes, location="left", shrink=0.8, ticks=[0, 0.5, 1], label="attention")
        return figure

    return chart(alt, draw)


def _short(word: str, longest: int = 18) -> str:
    return word if len(word) <= longest else word[: longest - 1] + "…"


def _style(palette: Palette) -> Any:
    return {
        "svg.hashsalt": "precis",  # else ids in the file are random
        "svg.fonttype": "none",  # the reader's fonts have more scripts than ours
        "text.parse_math": False,  # documents contain dollar signs
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Noto Sans"],  # of like width, as layout needs it
        "font.size": 10,
        "text.color": palette.ink,
        "axes.facecolor": palette.paper,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": palette.line,
        "axes.labelcolor": palette.soft,
        "axes.titlecolor": palette.ink,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 9,
        "axes.labelpad": 6,
        "axes.prop_cycle": _cycle(palette),
        "xtick.color": palette.line,
        "xtick.labelcolor": palette.soft,
        "ytick.color": palette.line,
        "ytick.labelcolor": palette.soft,
        "axes.grid": True,
        "grid.color": palette.grid,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "figure.facecolor": palette.paper,
        "savefig.facecolor": palette.paper,
    }


def _cycle(palette: Palette) -> Any:
    from cycler import cycler

    return cycler(color=palette.series)


def _uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
