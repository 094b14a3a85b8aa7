"""Draw how ROUGE grows with the training rows, from the blocks of benchmarks/RESULTS.md.

python benchmarks/scaling_chart.py reuters_headlines docs/images/quality-by-rows.png
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path("benchmarks/RESULTS.md")
_BLOCK = r"trained on ([\d,]+) rows.*?\n\| pointer \| (.*?)\n"
_SCORE = r"([\d.]+) \[([\d.]+), ([\d.]+)\]"


def points(results: str, corpus: str) -> dict[int, list[tuple[float, float, float]]]:
    """By number of rows, ROUGE-1 and ROUGE-2 of the pointer, each with its interval."""
    found = {}
    for block in re.split(r"^### ", results, flags=re.MULTILINE):
        match = re.search(_BLOCK, block, flags=re.DOTALL)
        if block.startswith(f"{corpus},") and match:
            scores = [tuple(map(float, score)) for score in re.findall(_SCORE, match[2])]
            found[int(match[1].replace(",", ""))] = scores[:2]
    return dict(sorted(found.items()))


def main() -> None:
    corpus, image = sys.argv[1], Path(sys.argv[2])
    found = points(RESULTS.read_text(encoding="utf-8"), corpus)
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for number, name in enumerate(("ROUGE-1", "ROUGE-2")):
        scores = [row[number] for row in found.values()]
        middle = [score[0] for score in scores]
        error = [[score[0] - score[1] for score in scores], [score[2] - score[0] for score in scores]]
        axes.errorbar(list(found), middle, yerr=error, marker="o", capsize=3, label=name)
    axes.set_xscale("log")
    axes.set_xticks(list(found), [f"{rows:,}" for rows in found])
    axes.minorticks_off()
    axes.set(xlabel="training rows", ylabel="points, test split", title=corpus.replace("_", " "))
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    figure.savefig(image, dpi=150)


if __name__ == "__main__":
    main()
