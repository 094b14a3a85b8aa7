"""Charts as SVG data URIs: they load nothing, run nothing, and are the same bytes for the same numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#2f6db3", "#d9822b", "#2c8c72", "#8a5fb0", "#b5495b", "#6b7280", "#b8860b", "#4aa3c7")
STYLE: Any = {
    "svg.hashsalt": "precis",  # else ids in the file are random
    "svg.fonttype": "none",
    "text.parse_math": False,  # documents contain dollar signs
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3ad",
    "axes.labelcolor": "#3d4650",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": "#5b6570",
    "ytick.color": "#5b6570",
    "axes.grid": True,
    "grid.color": "#e6e9ed",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}
MOST_SOURCE_WORDS = 40  # of a heat map


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, str]]]) -> str | None:
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
    with drawing():
        figure = new_figure(7.2, 3.4)
        axes = figure.subplots()
        for number, (name, curve) in enumerate(curves.items()):
            colour = COLOURS[number % len(COLOURS)]
            if curve["train_loss"]:
                axes.plot(*zip(*curve["train_loss"], strict=True), color=colour, alpha=0.35, linewidth=1)
            if curve["validation_loss"]:
                points = list(zip(*curve["validation_loss"], strict=True))
                axes.plot(*points, color=colour, marker="o", markersize=4, linewidth=1.8, label=name)
            else:
                axes.plot([], [], color=colour, label=name)
        axes.set(title="Loss", xlabel="updates", ylabel="negative log-likelihood per word")
        axes.legend()
        return _svg(figure)


def score_bars(rows: Sequence[tuple[str, float, float, float, bool]]) -> str:
    """ROUGE-1 with intervals: rows of name, mean, low, high, and whether it is a baseline."""
    with drawing():
        figure = new_figure(7.2, 0.6 + 0.42 * len(rows))
        axes = figure.subplots()
        places = range(len(rows))
        means = [mean for _, mean, _, _, _ in rows]
        # where all documents score alike, rounding can put the mean outside its interval by the last digit
        below = [max(mean - low, 0.0) for _, mean, low, _, _ in rows]
        above = [max(high - mean, 0.0) for _, mean, _, high, _ in rows]
        colours = ["#b8c0ca" if is_baseline else COLOURS[0] for *_, is_baseline in rows]
        axes.barh(
            places, means, xerr=[below, above], color=colours, height=0.62, error_kw={"ecolor": "#3d4650"}
        )
        axes.set_yticks(list(places), [name for name, *_ in rows])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        for place, mean, high in zip(places, means, (row[3] for row in rows), strict=True):
            axes.annotate(
                f"{mean:.1f}", (high, place), xytext=(6, 0), textcoords="offset points", va="center"
            )
        axes.margins(x=0.1)
        axes.set_title("ROUGE-1")
        return _svg(figure)


def length_chart(ranges: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str | None:
    """ROUGE-1 of the systems by length of the document; None with fewer than two ranges."""
    if len(ranges) < 2:
        return None
    with drawing():
        figure = new_figure(7.2, 3.2)
        axes = figure.subplots()
        for number, (name, cells) in enumerate(rows):
            values = [float(cell) for cell in cells]
            axes.plot(
                ranges, values, marker="o", markersize=4, color=COLOURS[number % len(COLOURS)], label=name
            )
        axes.set_ylim(bottom=0)
        axes.set_title("ROUGE-1 by length of the document (number of documents)")
        axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _svg(figure)


def heat_map(attention: Mapping[str, Any]) -> str:
    """Attention of one summary: its words down, the document's words across, p_gen at the side.

    Only the document's words that get attention and the first ones are shown, at most MOST_SOURCE_WORDS.
    """
    import numpy as np

    weights = np.asarray(attention["attention"], dtype=np.float64)
    source = attention["source"]
    heaviest = np.argsort(-weights.max(axis=0), kind="stable")[:MOST_SOURCE_WORDS]
    shown = np.sort(heaviest)
    p_gen = [value for value in attention["p_gen"] if value is not None]
    with drawing():
        figure = new_figure(1.9 + 0.19 * len(shown), 1.9 + 0.24 * len(weights))
        if p_gen:
            axes, side = figure.subplots(1, 2, sharey=True, width_ratios=[0.19 * len(shown), 1.1])
            side.barh(range(len(p_gen)), p_gen, color=COLOURS[1], height=0.7)
            side.set(xlim=(0, 1), xticks=[0, 1], title="p_gen")
            side.tick_params(left=False)
        else:
            axes = figure.subplots()
        axes.imshow(weights[:, shown], aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.grid(visible=False)
        axes.set_yticks(range(len(weights)), attention["summary"], fontsize=9)
        axes.set_xticks(
            range(len(shown)), [_short(source[place]) for place in shown], rotation=90, fontsize=8
        )
        axes.tick_params(length=0)
        return _svg(figure)


def _short(word: str, longest: int = 18) -> str:
    return word if len(word) <= longest else word[: longest - 1] + "…"


def drawing() -> Any:
    """The style of all charts, to be used as a context."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no window system hears of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG, without a date."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _svg(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg_bytes(figure)).decode("ascii")
