"""One side of the comparison of decoding speeds: a process that summarizes each time it is asked to.

python decode_worker.py WORKLOAD SIDE THREADS PART PARTS, then a line of JSON on standard input for each turn,
{"forced": true or false}, and one on standard output for each answer. Weights are random: only the time counts.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from speed_data import EOS, PAD, UNK, Workload, tensors
from speed_worker import opennmt_step, port_step, precis_step
from torch import Tensor

BEAMS = 4
STEPS = 16  # the end included
SUMMARY_WORDS = 7178  # of AESLC's vocabulary of 20,000, so many are in a training subject: the shortlist
PORT_DOCUMENTS = 8  # of a turn of the port: one at a time takes long
Turn = Callable[[bool], int]


def cut(
    workload: Workload, size: int, *, by_length: bool = False, part: tuple[int, int] = (0, 1)
) -> Workload:
    """The same rows in batches of at most `size`.

    Args:
        workload: the rows.
        size: of a batch.
        by_length: sort the rows by the length of the source first, the longest first.
        part: (i, n) takes one of n equal shares of the batches, in turns that go there and back.
    """
    rows = [pair for batch in workload.batches for pair in batch]
    if by_length:
        rows.sort(key=lambda pair: -len(pair[0]))
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    number, of = part
    order = [*range(of), *reversed(range(of))]
    mine = [batch for place, batch in enumerate(batches) if order[place % len(order)] == number]
    return dataclasses.replace(workload, batches=mine)


def target_lengths(batch: list[Any]) -> Tensor:
    """The number of words after which a document's summary ends, when documents end as their references do."""
    return torch.tensor([min(len(target), STEPS - 1) for _, target in batch])


def precis_side(workload: Workload, flags: frozenset[str]) -> Turn:
    from precis.decoding.beam_search import BeamSettings, beam_search
    from precis.decoding.step import SpecialIds
    from precis.models.source import Source
    from precis.serving.batch_decoder import BatchDecoder, in_bfloat16, output_matrix

    model = _part(precis_step(workload, "precis:general+copy"), "model").eval()
    size = workload.sizes.vocabulary
    listed = torch.arange(4 + SUMMARY_WORDS) if "shortlist" in flags else None
    output = output_matrix(model, listed, int8="int8" in flags, bfloat16="bfloat16" in flags)
    if "bfloat16" in flags:
        model = in_bfloat16(model)
    special = SpecialIds(pad=PAD, unk=UNK, bos=2, eos=EOS)
    sources = [
        (
            Source(
                batch["source_ids"],
                batch["extended_ids"],
                batch["lengths"],
                max(0, int(batch["extended_ids"].max()) - size + 1),
            ),
            target_lengths(pairs),
        )
        for batch, pairs in zip(tensors(workload), workload.batches, strict=True)
    ]

    class EndsLikeReferences(BatchDecoder):
        """Ends every hypothesis of a document after as many words as its reference has."""

        def initial_state(self, memory, beams):
            state = super().initial_state(memory, beams)
            return {**state, "words": torch.zeros(len(memory["target_lengths"]), beams, dtype=torch.int64)}

        def step(self, memory, state, previous_ids):
            number = state["words"]
            step = super().step(memory, {k: v for k, v in state.items() if k != "words"}, previous_ids)
            ends = (number >= memory["target_lengths"].unsqueeze(1)).unsqueeze(2)
            return dataclasses.replace(
                step,
                vocab_log_probs=Ending(step.vocab_log_probs, ends),
                p_gen_logit=step.p_gen_logit.masked_fill(ends, 50.0),
                state={**step.state, "words": number + 1},
            )

    class Ending:
        """Scores with the end alone where `ends`, (B, K, 1), and without it elsewhere."""

        def __init__(self, scores, ends):
            self.scores, self.ends, self.vocabulary_size = scores, ends, scores.vocabulary_size

        def of(self, ids):
            is_end = (ids == EOS).unsqueeze(1)
            log_probs = self.scores.of(ids).masked_fill(is_end != self.ends, -torch.inf)
            return log_probs.masked_fill(is_end & self.ends, 0.0)

        def best(self, count):
            log_probs, ids = self.scores.best(count)
            return log_probs.masked_fill(self.ends | (ids == EOS), -torch.inf), ids

    def turn(forced: bool) -> int:
        settings = BeamSettings(beam_size=BEAMS, min_length=STEPS - 1 if forced else 0, max_length=STEPS - 1)
        number = 0
        for source, lengths in sources:
            with torch.inference_mode():
                decoder = (BatchDecoder if forced else EndsLikeReferences)(model, output)
                memory = decoder.encode(source)
                if not forced:
                    memory = {**memory, "target_lengths": lengths}
                found = beam_search(decoder, memory, source.extended_ids, settings, special)
            expected = torch.full_like(lengths, STEPS - 1) if forced else lengths
            assert [len(best[0].ids) for best in found] == expected.tolist()
            number += len(lengths)
        return number

    return turn


def opennmt_side(workload: Workload, flags: frozenset[str]) -> Turn:
    for missing in ("spacy", "fasttext"):  # imported at its start, not used here
        sys.modules[missing] = ModuleType(missing)
    import onmt.inputters.inputter as inputter
    from onmt.translate.beam_search import GNMTGlobalScorer
    from onmt.translate.translator import Translator

    vocabularies: dict[str, Any] = {}
    build_vocab = inputter.build_vocab

    def remember(*arguments: Any) -> Any:
        vocabularies.update(build_vocab(*arguments))
        return vocabularies

    inputter.build_vocab = remember
    step = opennmt_step(workload, "opennmt:general+copy")
    model = _part(step, "trainer").model.eval()
    batches = [
        {name: value for name, value in batch.items() if name not in ("tgt", "tgtlen", "alignment")}
        for batch in _part(step, "batches")
    ]

    class EndsLikeReferences(Translator):
        lengths = None

        def _decode_and_generate(self, *arguments, step=None, batch_offset=None, **more):
            log_probs, attention = super()._decode_and_generate(
                *arguments, step=step, batch_offset=batch_offset, **more
            )
            if self.lengths is not None:
                lengths = self.lengths if batch_offset is None else self.lengths[batch_offset]
                ends = (step >= lengths).repeat_interleave(BEAMS)
                end = self._tgt_eos_idx
                log_probs[~ends, end] = -1e20
                log_probs[ends] = -1e20
                log_probs[ends, end] = 0.0
            return log_probs, attention

    def turn(forced: bool) -> int:
        number = 0
        for batch, pairs in zip(batches, workload.batches, strict=True):
            translator = EndsLikeReferences(
                model, vocabularies, n_best=1, beam_size=BEAMS, copy_attn=True, report_score=False,
                min_length=STEPS if forced else 0, max_length=STEPS, max_length_ratio=0,
                global_scorer=GNMTGlobalScorer(0.0, 0.0, "none", "none"),
            )  # fmt: skip
            translator.lengths = None if forced else target_lengths(pairs)
            # its own code changes what it is given
            found = translator.translate_batch(
                {k: v.clone() if torch.is_tensor(v) else v for k, v in batch.items()}, False
            )
            assert len(found["predictions"]) == len(pairs)
            number += len(pairs)
        return number

    return turn


def port_side(workload: Workload, flags: frozenset[str]) -> Turn:
    """Beam search as See et al.'s code does it: one document at a time, hypotheses as Python objects.

    Their batch is the document as many times as there are beams, for the encoder and for the first step, too. With
    the flag 256 it has their hidden size of each direction, and so a decoder and a readout as wide as the other sides.
    """
    if "256" in flags:
        workload = dataclasses.replace(workload, sizes=dataclasses.replace(workload.sizes, hidden=256))
    model = _part(port_step(cut(workload, 1), "port"), "model").eval()
    size = workload.sizes.vocabulary
    rows = tensors(cut(workload, 1))
    pairs = [pair for batch in workload.batches for pair in batch]
    stride = max(1, len(rows) // PORT_DOCUMENTS)
    chosen = [(rows[i], pairs[i]) for i in range(0, len(rows), stride)][:PORT_DOCUMENTS]

    def turn(forced: bool) -> int:
        with torch.no_grad():
            for row, (_, target) in chosen:
                num_steps = STEPS if forced else min(len(target), STEPS - 1) + 1
                _search_one(model, row, num_steps, size)
        return len(chosen)

    return turn


def _search_one(model: Any, row: dict[str, Tensor], num_steps: int, size: int) -> list[int]:
    states, (h, c) = model.encoder(model.embedding(row["source_ids"].expand(BEAMS, -1)))
    features = model.w_h(states)
    h = torch.relu(model.reduce_h(h.transpose(0, 1).reshape(BEAMS, -1)))
    c = torch.relu(model.reduce_c(c.transpose(0, 1).reshape(BEAMS, -1)))
    extended = row["extended_ids"]
    num_oovs = max(0, int(extended.max()) - size + 1)
    start = {"ids": [2], "score": 0.0, "h": h[0], "c": c[0], "context": states.new_zeros(states.shape[2])}
    hypotheses = [start] * BEAMS
    for step in range(num_steps):
        last = torch.tensor([one["ids"][-1] if one["ids"][-1] < size else UNK for one in hypotheses])
        context = torch.stack([one["context"] for one in hypotheses])
        h = torch.stack([one["h"] for one in hypotheses])[None]
        c = torch.stack([one["c"] for one in hypotheses])[None]
        x = model.merge(torch.cat([context, model.embedding(last)], 1))
        _, (h, c) = model.decoder(x[:, None], (h, c))
        state = torch.cat([h[0], c[0]], 1)
        scores = model.v(torch.tanh(features + model.w_s(state)[:, None])).squeeze(2)
        attention = torch.softmax(scores, dim=1)
        context = torch.bmm(attention[:, None], states).squeeze(1)
        p_gen = torch.sigmoid(model.gate(torch.cat([context, state, x], 1)))
        vocab_dist = torch.softmax(model.out2(model.out1(torch.cat([h[0], context], 1))), dim=1)
        final = torch.cat([p_gen * vocab_dist, vocab_dist.new_zeros(len(hypotheses), num_oovs)], 1)
        copied = (1 - p_gen) * attention
        final = final.scatter_add(1, extended.expand(len(hypotheses), -1), copied)
        log_probs, ids = final.log().topk(2 * BEAMS, dim=1)
        extensions = [
            {
                "ids": [*one["ids"], word],
                "score": one["score"] + log_prob,
                "h": h[0, number],
                "c": c[0, number],
                "context": context[number],
            }
            for number, one in enumerate(hypotheses if step else hypotheses[:1])
            for word, log_prob in zip(ids[number].tolist(), log_probs[number].tolist(), strict=True)
        ]
        hypotheses = sorted(extensions, key=lambda one: -one["score"] / len(one["ids"]))[:BEAMS]
    return hypotheses[0]["ids"]


def _part(step: Callable[..., Any], name: str) -> Any:
    """A variable that an update of `speed_worker` keeps, such as its model."""
    return inspect.getclosurevars(step).nonlocals[name]


def main() -> None:
    path, side, threads, part, parts = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # a peer may print
    workload = Workload.load(path)
    name, _, batch = side.partition("@")
    name, *flags = name.split("+")
    by_length = name == "precis" or "sorted" in flags  # precis sorts what it is given
    workload = cut(workload, int(batch or 64), by_length=by_length, part=(part, parts))
    makers = {"precis": precis_side, "opennmt": opennmt_side, "port": port_side}
    turn = makers[name](workload, frozenset(flags))
    print(json.dumps({"ready": side}), file=answers, flush=True)
    for line in sys.stdin:
        forced = json.loads(line)["forced"]
        wall, cpu = time.perf_counter(), time.process_time()
        number = turn(forced)
        answer = {
            "documents": number,
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
