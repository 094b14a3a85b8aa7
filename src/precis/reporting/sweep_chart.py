"""A sweep of decoding settings as a table and a picture: quality against time."""

from __future__ import annotations

from precis.reporting.charts import COLOURS, drawing, new_figure, svg_bytes
from precis.serving.sweep import TIMED, Sweep


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
    with drawing():
        figure = new_figure(7.2, 4.0)
        axes = figure.subplots()
        sizes = sorted({one.setting.beam_size for one in found.scored})
        for number, size in enumerate(sizes):
            of_size = [one for one in found.scored if one.setting.beam_size == size]
            axes.scatter(
                [1000 * one.seconds for one in of_size],
                [one.rouge1 for one in of_size],
                s=14,
                alpha=0.6,
                color=COLOURS[number % len(COLOURS)],
                label=f"beam {size}",
            )
        best = found.best
        axes.scatter(
            [1000 * best.seconds], [best.rouge1], s=90, facecolors="none", edgecolors="black", label="best"
        )
        axes.set(
            title="Quality against time",
            xlabel="milliseconds for one document alone",
            ylabel="ROUGE-1 on validation",
        )
        axes.legend()
        return svg_bytes(figure)
