"""Draws the pictures of docs/models.md from the trained models: `make docs-pictures`.

Every number in them comes from models/ and a document of the test split, which a rule chooses: short enough for a
picture, with a good summary. Other models bring other pictures.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from precis import Summarizer
from precis.errors import PrecisError
from precis.models.mixture import final_log_probs
from precis.models.source import BOS_ID, EOS_ID, PAD_ID, Source
from precis.reporting.charts import LIGHT, new_figure
from precis.text.source_oovs import extend_source, extend_target, words_of
from precis.text.tokenizer import surface

MODELS = ("encoder_decoder", "attention", "pointer")
WIDTH = 9.0  # inches
FEWEST_WORDS, MOST_WORDS = 18, 42  # of the document: as many as fit below a picture
LEAST_WITH_LETTERS = 0.75  # share of the words that are no marks: prose rather than a list of arguments
FEWEST_SUMMARY_WORDS, MOST_SUMMARY_WORDS = 6, 11
FEWEST_UNKNOWN = 2  # words of the summary that the vocabulary lacks
UNITS = 14  # of a hidden state that are drawn
COPIED, GENERATED, COLD = "#2c8c72", "#2f6db3", "#d9822b"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """A document as one model reads it.

    Attributes:
        words: of the document.
        source_ids: with the unknown word where the vocabulary has none.
        extended_ids: with a number of their own for such words.
        oovs: those words, in the order of their numbers.
        source: as the model takes it, a batch of one.
    """

    words: list[str]
    source_ids: list[int]
    extended_ids: list[int]
    oovs: list[str]
    source: Source


@dataclass(frozen=True)
class Steps:
    """What a model said while these words were written one after the other.

    Attributes:
        words: that were written, the end left out.
        generated: log P_vocab at each step, (T, V).
        attention: a^t, (T, S); None for a model without.
        p_gen: (T,); None for a model that cannot copy.
        final: log P(w) over the extended vocabulary, (T, V+O).
        ids: of the words, extended.
    """

    words: list[str]
    generated: Array
    attention: Array | None
    p_gen: Array | None
    final: Array
    ids: list[int]


def read(summarizer: Summarizer, text: str) -> Reading:
    """Give every word of a document its numbers."""
    words = [token.text for token in summarizer.source_tokens(text)]
    source_ids = summarizer.source_vocabulary.ids(words)
    extended_ids, oovs = extend_source(words, summarizer.target_vocabulary)
    source = Source(
        torch.tensor([source_ids]), torch.tensor([extended_ids]), torch.tensor([len(words)]), len(oovs)
    )
    return Reading(words, source_ids, extended_ids, oovs, source)


@torch.inference_mode()
def write(summarizer: Summarizer, reading: Reading, words: Sequence[str]) -> Steps:
    """Have a model write exactly these words, and the end."""
    model, vocabulary = summarizer.model.eval(), summarizer.target_vocabulary
    ids = extend_target(words, vocabulary, reading.oovs)
    memory = model.encode(reading.source)
    state = model.initial_state(memory, 1)
    generated, attention, p_gen, final = [], [], [], []
    for previous in [BOS_ID, *vocabulary.ids(words)]:
        step = model.step(memory, state, torch.tensor([[previous]]))
        state = step.state
        generated.append(step.vocab_log_probs[0, 0])
        final.append(final_log_probs(step, reading.source.extended_ids, len(reading.oovs))[0, 0])
        if step.attention is not None:
            attention.append(step.attention[0, 0])
        if step.p_gen_logit is not None:
            p_gen.append(step.p_gen_logit.sigmoid()[0, 0, 0])
    return Steps(
        list(words),
        torch.stack(generated).double().numpy(),
        torch.stack(attention).double().numpy() if attention else None,
        torch.stack(p_gen).double().numpy() if p_gen else None,
        torch.stack(final).double().numpy(),
        ids,
    )


def choose(summarizer: Summarizer, test: Path) -> tuple[dict[str, Any], list[str]]:
    """The document of the pictures, and the words that the pointer model wrote about it.

    Of the short documents whose summary copies words that the vocabulary lacks, the one whose summary shares the
    largest part of its words with the human one, and of equals the first.
    """
    if not test.is_file():
        raise PrecisError(f"{test} not found: run `make repro` first, which makes it and the models")
    rows = [row for row in pq.read_table(test).to_pylist() if is_fit(summarizer.words(row["document"]))]
    best, best_score = None, 0.0
    summaries = summarizer.summarize([row["document"] for row in rows]) if rows else []
    for row, summary in zip(rows, summaries, strict=True):
        written = summary.words
        reference = {word.lower() for word in summarizer.words(row["summary"])}
        unknown = [
            token
            for token in summary.tokens
            if token.origin == "copied" and token.word not in summarizer.target_vocabulary
        ]
        fits = FEWEST_SUMMARY_WORDS <= len(written) <= MOST_SUMMARY_WORDS
        if len(unknown) < FEWEST_UNKNOWN or not fits:
            continue
        score = len(set(written) & reference) / len(set(written) | reference)
        if score > best_score:
            best, best_score = (row, written), score
    if best is None:
        raise PrecisError(
            f"{test} has no document of {FEWEST_WORDS} to {MOST_WORDS} words whose summary copies words that "
            "the vocabulary lacks: train the default models, `make repro`"
        )
    return best


def is_fit(words: Sequence[str]) -> bool:
    """Whether a document fits into the pictures and is prose."""
    with_letters = sum(any(map(str.isalpha, word)) for word in words)
    return FEWEST_WORDS <= len(words) <= MOST_WORDS and with_letters >= LEAST_WITH_LETTERS * len(words)


def shown(word: str) -> str:
    """A word as people know it."""
    return surface(word)


def draw_unrolled(reading: Reading, states: Array, hidden_size: int) -> Figure:
    """The forward net, once for every word, with the real values of some of its units."""
    forward = states[:, :hidden_size]
    units = np.argsort(-forward.std(axis=0), kind="stable")[:UNITS]
    values = forward[: min(len(reading.words), 14)][:, units]
    figure = new_figure(WIDTH, 4.2)
    axes = figure.subplots()
    steps, num_units = values.shape
    for t in range(steps):
        for unit in range(num_units):
            colour = matplotlib.colormaps["RdBu_r"](0.5 + values[t, unit] / 2)
            axes.add_patch(Rectangle((t, unit * 0.22), 0.55, 0.22, color=colour, linewidth=0))
        axes.add_patch(Rectangle((t, 0), 0.55, num_units * 0.22, fill=False, edgecolor=LIGHT.line))
        axes.add_patch(arrow((t + 0.275, -0.55), (t + 0.275, -0.03)))
        axes.text(
            t + 0.275,
            -0.65,
            shown(reading.words[t]),
            ha="right",
            va="top",
            rotation=40,
            rotation_mode="anchor",
        )
        if t + 1 < steps:
            middle = num_units * 0.11
            axes.add_patch(arrow((t + 0.57, middle), (t + 0.98, middle)))
        axes.text(
            t + 0.275, num_units * 0.22 + 0.1, f"$h_{{{t + 1}}}$", ha="center", va="bottom", color=LIGHT.ink
        )
    axes.set_xlim(-0.2, steps - 0.25)
    axes.set_ylim(-1.7, num_units * 0.22 + 0.6)
    axes.axis("off")
    axes.set_title(
        f"One cell, {steps} times: {num_units} of its {hidden_size} units after each word (blue −1, red +1)"
    )
    return figure


def draw_bidirectional(
    summarizer: Summarizer, text: str, reading: Reading, states: Array, hidden_size: int
) -> Figure:
    """Which states know of a word: replace it, and see which of them change."""
    middle = len(reading.words) // 2
    place = next(at for at in range(middle, len(reading.words)) if shown(reading.words[at]).isalpha())
    ids = list(reading.source_ids)
    # a word that is no word stands in its place: the vocabulary's unknown one, or another if it is that already
    ids[place] = 1 if ids[place] != 1 else 4
    source = Source(
        torch.tensor([ids]), reading.source.extended_ids, reading.source.lengths, len(reading.oovs)
    )
    with torch.inference_mode():
        changed = summarizer.model.encode(source)["encoder_states"][0].double().numpy()
    size = [np.linalg.norm(states[:, part], axis=1).mean() for part in halves(hidden_size)]
    change = [
        np.linalg.norm(states[:, part] - changed[:, part], axis=1) / mean
        for part, mean in zip(halves(hidden_size), size, strict=True)
    ]
    figure = new_figure(WIDTH, 3.9)
    axes = figure.subplots()
    places = np.arange(len(reading.words))
    axes.bar(places, change[0], width=0.8, color=GENERATED, label="forward states  →")
    axes.bar(places, -change[1], width=0.8, color=COLD, label="backward states  ←")
    axes.axhline(0, color=LIGHT.line, linewidth=0.8)
    axes.axvspan(place - 0.5, place + 0.5, color="#ffd666", alpha=0.5, zorder=0)
    axes.set_xticks(
        places, [shown(word) for word in reading.words], rotation=55, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks([])
    axes.set_xlim(-0.7, len(places) - 0.3)
    axes.legend(frameon=False, loc="upper left")
    axes.set_title(f"How much each state changes when “{shown(reading.words[place])}” is another word")
    return figure


def draw_attention(panels: Sequence[tuple[str, Reading, Steps]]) -> Figure:
    """Attention of models over the same document, each while it writes its own summary."""
    rows = [len(steps.words) for _, _, steps in panels]
    figure = new_figure(WIDTH, 1.9 + 0.27 * sum(rows))
    all_axes = figure.subplots(len(panels), 1, height_ratios=rows, sharex=True, squeeze=False)[:, 0]
    for axes, (name, _, steps) in zip(all_axes, panels, strict=True):
        assert steps.attention is not None
        image = axes.imshow(steps.attention[: len(steps.words)], cmap=ramp(), vmin=0, vmax=1, aspect="auto")
        axes.set_yticks(range(len(steps.words)), [shown(word) for word in steps.words])
        axes.set_title(name, loc="left", fontsize=10)
        axes.tick_params(length=0)
    reading = panels[-1][1]
    all_axes[-1].set_xticks(
        range(len(reading.words)), [shown(word) for word in reading.words], rotation=55, ha="right",
        rotation_mode="anchor",
    )  # fmt: skip
    figure.colorbar(image, ax=all_axes, shrink=0.6).set_label("$a^t_i$", rotation=0)
    return figure


def draw_numbers(summarizer: Summarizer, reading: Reading) -> Figure:
    """The words of a document with the numbers that encoder and pointer know them by."""
    first_oov = next(place for place, id_ in enumerate(reading.source_ids) if id_ == 1)
    start = max(0, min(first_oov - 3, len(reading.words) - 11))
    part = slice(start, start + 11)
    rows = [
        ("word", [shown(word) for word in reading.words[part]]),
        ("the encoder reads", [str(id_) if id_ != 1 else "1 (unknown)" for id_ in reading.source_ids[part]]),
        ("the pointer knows", [str(id_) for id_ in reading.extended_ids[part]]),
    ]
    figure = new_figure(WIDTH, 1.5)
    axes = figure.subplots()
    axes.axis("off")
    table = axes.table([[name, *cells] for name, cells in rows], loc="center", cellLoc="center")
    table.auto_set_font_size(False)
    table.set_fontsize(8.5)
    table.scale(1, 1.7)
    unknown = [number for number, id_ in enumerate(reading.source_ids[part], 1) if id_ == 1]
    for (_, column), cell in table.get_celld().items():
        cell.set_edgecolor(LIGHT.grid)
        if column == 0:
            cell.set_text_props(color=LIGHT.soft)
        if column in unknown:
            cell.set_facecolor("#cfe8dc")
    table.auto_set_column_width(list(range(12)))
    for cell in table.get_celld().values():
        cell.PAD = 0.15
    size = len(summarizer.target_vocabulary)
    axes.set_title(f"V = {size:,}: ids from {size} on are this document's own", fontsize=10)
    return figure


def draw_pointing(summarizer: Summarizer, reading: Reading, steps: Steps) -> Figure:
    """One step of eq. 9: what is generated, what is copied, and the sum."""
    assert steps.attention is not None and steps.p_gen is not None
    size = len(summarizer.target_vocabulary)
    copied_oovs = [t for t, id_ in enumerate(steps.ids) if id_ >= size]
    # the step where the two halves compete most
    t = min(copied_oovs, key=lambda step: abs(steps.p_gen[step] - 0.5))  # type: ignore[index]
    p_gen = float(steps.p_gen[t])
    generated = np.zeros(size + len(reading.oovs))
    generated[:size] = p_gen * np.exp(steps.generated[t])
    copied = np.zeros_like(generated)
    np.add.at(copied, reading.extended_ids, (1 - p_gen) * steps.attention[t, : len(reading.words)])
    total = generated + copied
    assert np.allclose(total, np.exp(steps.final[t]), atol=1e-5)  # eq. 9 as the model itself computes it
    top = np.argsort(-total, kind="stable")[:8]
    names = [
        label(word, id_, size) for word, id_ in zip(names_of(summarizer, reading, top), top, strict=True)
    ]
    figure = new_figure(WIDTH, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    heaviest = np.argsort(-steps.attention[t], kind="stable")[:8]
    left.barh(range(len(heaviest)), steps.attention[t][heaviest], color=COPIED)
    left.set_yticks(range(len(heaviest)), [f"{shown(reading.words[i])}  ({i + 1})" for i in heaviest])
    left.invert_yaxis()
    left.set_title("attention $a^t_i$ over the words (their places)", fontsize=10)
    right.barh(range(len(top)), copied[top], color=COPIED, label="$(1 - p_{gen})\\ \\Sigma\\ a^t_i$, copied")
    right.barh(
        range(len(top)), generated[top], left=copied[top], color=GENERATED, hatch="///", edgecolor="white",
        label="$p_{gen}\\ P_{vocab}(w)$, generated",
    )  # fmt: skip
    right.set_yticks(range(len(top)), names)
    right.invert_yaxis()
    right.legend(frameon=False, loc="lower right")
    right.set_title("$P(w)$ (eq. 9); * not in the vocabulary", fontsize=10)
    so_far = " ".join(shown(word) for word in steps.words[:t]) or "(the beginning)"
    figure.suptitle(f"The word after “{so_far}”: $p_{{gen}}$ = {p_gen:.2f}", fontsize=11)
    return figure


def draw_mixture(summarizer: Summarizer, reading: Reading, steps: Steps) -> Figure:
    """Every word of the summary: its probability, generated and copied, and p_gen."""
    assert steps.attention is not None and steps.p_gen is not None
    count = len(steps.words)
    size = len(summarizer.target_vocabulary)
    matches = np.asarray(reading.extended_ids)[None, :] == np.asarray(steps.ids)[:, None]
    copied = (1 - steps.p_gen[:count]) * (steps.attention[:count, : len(reading.words)] * matches).sum(axis=1)
    generated = np.array(
        [
            steps.p_gen[t] * np.exp(steps.generated[t, id_]) if id_ < size else 0.0
            for t, id_ in enumerate(steps.ids)
        ]
    )
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    places = np.arange(count)
    axes.bar(places, copied, 0.62, color=COPIED, label="copied")
    axes.bar(
        places,
        generated,
        0.62,
        bottom=copied,
        color=GENERATED,
        hatch="///",
        edgecolor="white",
        label="generated",
    )
    axes.plot(places, steps.p_gen[:count], "D", color=COLD, label="$p_{gen}$")
    names = [label(word, id_, size) for word, id_ in zip(steps.words, steps.ids, strict=True)]
    axes.set_xticks(places, names)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, ncols=3, loc="upper left", bbox_to_anchor=(0, 1.2))
    axes.set_title("probability of each word;  * not in the vocabulary", fontsize=10, loc="right")
    return figure


def draw_coverage(reading: Reading, steps: Steps, *, trained_with: bool) -> Figure:
    """What has been attended to before each step (eq. 10), and what of it is attended to again (eq. 12)."""
    assert steps.attention is not None
    attention = steps.attention[: len(steps.words)]
    coverage = attention.cumsum(axis=0) - attention  # before this step, so a^t is not yet in it
    again = np.minimum(attention, coverage).sum(axis=1)
    figure = new_figure(WIDTH, 2.4 + 0.27 * len(steps.words))
    heat, bars = figure.subplots(1, 2, width_ratios=(4, 1), sharey=True)
    heat.imshow(coverage, cmap=ramp(), vmin=0, aspect="auto")
    heat.set_yticks(range(len(steps.words)), [shown(word) for word in steps.words])
    heat.set_xticks(
        range(len(reading.words)), [shown(word) for word in reading.words], rotation=55, ha="right",
        rotation_mode="anchor",
    )  # fmt: skip
    heat.tick_params(length=0)
    how = "with" if trained_with else "without"
    heat.set_title(
        f"$c^t$ before each word (white 0, darkest {coverage.max():.1f}); trained {how} coverage", fontsize=10
    )
    bars.barh(range(len(steps.words)), again, color=COLD)
    bars.set_title("$\\Sigma_i\\ \\min(a^t_i, c^t_i)$", fontsize=10)
    bars.set_xlim(0, 1)
    return figure


def draw_reference(reference: Sequence[str], by_model: Sequence[tuple[str, Steps, int]]) -> Figure:
    """The probability that each model gives to each word that a person wrote."""
    figure = new_figure(WIDTH, 3.7)
    axes = figure.subplots()
    places = np.arange(len(reference))
    width = 0.8 / len(by_model)
    colours = (LIGHT.muted, GENERATED, COPIED)
    for number, (name, steps, _) in enumerate(by_model):
        values = np.exp(steps.final[np.arange(len(reference)), steps.ids])
        values[np.asarray(steps.ids) == 1] = 0.0  # the unknown word is never written
        axes.bar(places + (number - 1) * width, values, width, color=colours[number], label=name)
    _, steps, size = by_model[-1]
    names = [
        label(word, id_ if id_ != 1 else size, size) for word, id_ in zip(reference, steps.ids, strict=True)
    ]
    axes.set_xticks(places, names, rotation=25, ha="right", rotation_mode="anchor")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, ncols=3, loc="upper left", bbox_to_anchor=(0, 1.18))
    axes.set_title("P of the words that a person wrote;  * not in the vocabulary", fontsize=10, loc="right")
    return figure


def names_of(summarizer: Summarizer, reading: Reading, ids: NDArray[np.int64]) -> list[str]:
    """The words of extended ids; the end by its name."""
    ends = {EOS_ID: "(end)", PAD_ID: "(padding)", BOS_ID: "(start)", 1: "(unknown)"}
    known = words_of(ids.tolist(), summarizer.target_vocabulary, reading.oovs)
    return [ends.get(id_, word) for id_, word in zip(ids.tolist(), known, strict=True)]


def label(word: str, id_: int, vocabulary_size: int) -> str:
    """A word, marked where the vocabulary lacks it."""
    return shown(word) + (" *" if id_ >= vocabulary_size else "")


def halves(hidden_size: int) -> tuple[slice, slice]:
    """Where the forward and the backward half of an encoder state are."""
    return slice(0, hidden_size), slice(hidden_size, 2 * hidden_size)


def ramp() -> Any:
    """Colours of a weight."""
    return matplotlib.colors.LinearSegmentedColormap.from_list("weight", [LIGHT.least, LIGHT.most])


def arrow(start: tuple[float, float], end: tuple[float, float]) -> FancyArrowPatch:
    """From one place of the axes to another."""
    return FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color=LIGHT.soft, linewidth=0.9)


def save(figure: Figure, path: Path) -> None:
    """Write a picture with few colours: the same bytes for the same numbers, and small."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None}, facecolor="white")
    image = Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    print(f"{path}  {path.stat().st_size // 1024} kB")


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--test", type=Path, default=Path("data/prepared/test.parquet"))
    parser.add_argument("--into", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    summarizers = {name: Summarizer.load(options.models / name) for name in MODELS}
    pointer, attention = summarizers["pointer"], summarizers["attention"]
    row, written = choose(pointer, options.test)
    print(f"document {row['id']}: {' '.join(written)}")
    readings = {name: read(summarizer, row["document"]) for name, summarizer in summarizers.items()}
    reading = readings["pointer"]
    with torch.inference_mode():
        states = pointer.model.encode(reading.source)["encoder_states"][0].double().numpy()
    hidden_size = pointer.model.options["hidden_size"]
    covered = pointer.model.options.get("coverage_on", pointer.model.options["coverage"])
    steps = write(pointer, reading, written)
    by_attention = attention.summarize([row["document"]])[0].words
    reference = pointer.words(row["summary"])
    style = {
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": LIGHT.line,
    }
    style |= {
        "axes.labelcolor": LIGHT.soft,
        "xtick.color": LIGHT.ink,
        "ytick.color": LIGHT.ink,
        "hatch.linewidth": 0.6,
    }
    with matplotlib.rc_context(style):
        pictures = {
            "unrolled": draw_unrolled(reading, states, hidden_size),
            "attention": draw_attention(
                [
                    (
                        "attention",
                        readings["attention"],
                        write(attention, readings["attention"], by_attention),
                    ),
                    ("pointer", reading, steps),
                ]
            ),
            "numbers": draw_numbers(pointer, reading),
            "pointing": draw_pointing(pointer, reading, steps),
            "mixture": draw_mixture(pointer, reading, steps),
            "coverage": draw_coverage(reading, steps, trained_with=bool(covered)),
            "reference": draw_reference(
                reference,
                [
                    (
                        name,
                        write(summarizers[name], readings[name], reference),
                        len(summarizers[name].target_vocabulary),
                    )
                    for name in MODELS
                ],
            ),
        }
        if pointer.model.options["bidirectional"]:
            pictures["bidirectional"] = draw_bidirectional(
                pointer, row["document"], reading, states, hidden_size
            )
        for name, figure in pictures.items():
            save(figure, options.into / f"models-{name}.png")


if __name__ == "__main__":
    try:
        main()
    except PrecisError as error:
        sys.exit(f"error: {error}")
