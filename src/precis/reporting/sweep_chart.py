"""A sweep of decoding settings as a table and a picture: quality against time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from precis.reporting.charts import LIGHT, WIDTH, Palette, new_figure, svg_bytes
from precis.serving.sweep import TIMED, Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sweep_markdown(found: Sweep, model: str, num_documents: int, signature: str) -> str:
    """The settings, best first."""
    lines = [
        f"# Decoding settings of {model}",
        "",
        f"{num_documents:,} validation documents, {len(found.scored)} settings, `{signature}`. "
        f"{found.num_steps:,} decoder steps; a full search for each setting takes {found.num_steps_one_by_one:,}. "
        f"Time: of one document alone, the median of {TIMED}.",
        "",
        "| beam | length penalty | coverage penalty | ROUGE-1 | ROUGE-2 | ROUGE-L | characters | ms |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in sorted(found.scored, key=lambda one: -(one.rouge1 + one.rouge2)):
        penalties = one.setting.penalties
        length = penalties.length if penalties.length != "wu" else f"wu {penalties.length_alpha}"
        coverage = penalties.coverage
        if coverage != "none":
            coverage = f"{coverage} {penalties.coverage_beta}"  # type: ignore[assignment]
        lines.append(
            f"| {one.setting.beam_size} | {length} | {coverage} | {one.rouge1:.2f} | {one.rouge2:.2f} | "
            f"{one.rougeL:.2f} | {one.characters:.0f} | {1000 * one.seconds:.1f} |"
        )
    return "\n".join(lines) + "\n"


def sweep_chart(found: Sweep) -> bytes:
    """ROUGE-1 of every setting against the time of its beam size, as SVG."""

    def draw(palette: Palette) -> Figure:
        figure = new_figure(WIDTH, 3.8)
        axes = figure.subplots()
        sizes = sorted({one.setting.beam_size for one in found.scored})
        for number, size in enumerate(sizes):
            of_size = [one for one in found.scored if one.setting.beam_size == size]
            axes.scatter(
                [1000 * one.seconds for one in of_size],
                [one.rouge1 for one in of_size],
                s=16,
                alpha=0.6,
                color=palette.series[number % len(palette.series)],
                label=f"beam {size}",
            )
        best = found.best
        axes.scatter(
            [1000 * best.seconds],
            [best.rouge1],
            s=90,
            facecolors="none",
            edgecolors=palette.ink,
            label="best",
        )
        axes.set(
            title="Quality against time",
            xlabel="milliseconds for one document alone",
            ylabel="ROUGE-1 on validation",
        )
        axes.set_xlim(left=0)
        axes.legend()
        return figure

    return svg_bytes(draw, LIGHT)
