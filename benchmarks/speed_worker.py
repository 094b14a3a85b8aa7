"""One side of a speed comparison: a process that trains a while each time it is asked to.

python speed_worker.py WORKLOAD SIDE THREADS, then a line of JSON on standard input for each round,
{"first": batch, "number": batches}, and one on standard output for each answer. With "profile": true the
answer is where the time of these updates went.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from speed_data import Workload, tensors


def precis_step(workload: Workload, side: str) -> Callable[[int], float]:
    """One update of a precis model by batch number; `side` is precis:ATTENTION[+copy][+coverage][+...]."""
    from precis.models.build import build_model
    from precis.models.source import Source, Target

    attention, *flags = side.removeprefix("precis:").split("+")
    sizes = workload.sizes
    options = {
        "source_vocabulary_size": sizes.vocabulary, "target_vocabulary_size": sizes.vocabulary,
        "shared_vocabulary": True, "cell": "lstm", "layers": 1, "bidirectional": True,
        "embedding_size": sizes.embedding, "hidden_size": sizes.hidden,
        "decoder_size": sizes.hidden * (1 if "see2017" in flags else 2),
        "tie_embeddings": "tied" in flags, "readout": "linear" if "see2017" in flags else "tanh",
        "dropout": 0.0, "word_dropout": 0.0, "label_smoothing": 0.0, "attention": attention,
        "input_feeding": "feeding" in flags, "attend_with_cell": "feeding" in flags, "intra_attention": False,
        "coverage": "coverage" in flags, "coverage_weight": 1.0, "pointing_weight": 0.0,
    }  # fmt: skip
    if "copy" in flags:
        options["generation"] = "mixture"
    model = build_model("pointer" if "copy" in flags else "attention", **options)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adagrad(parameters, lr=0.15, initial_accumulator_value=0.1, fused=True)
    batches = [
        (
            Source(batch["source_ids"], batch["extended_ids"], batch["lengths"],
                   max(0, int(batch["extended_ids"].max()) - sizes.vocabulary + 1)),
            Target(batch["target_inputs"], batch["target_ids"]),
        )
        for batch in tensors(workload)
    ]  # fmt: skip

    def step(number: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        losses = model.training_loss(*batches[number])
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        return losses.nll_sum.item() / losses.num_tokens.item()

    return step


def port_step(workload: Workload, side: str) -> Callable[[int], float]:
    """One update of the port; `side` is port[+coverage]."""
    from see2017_port import See2017Port

    sizes = workload.sizes
    model = See2017Port(sizes.vocabulary, sizes.embedding, sizes.hidden, "coverage" in side)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adagrad(parameters, lr=0.15, initial_accumulator_value=0.1)
    batches = tensors(workload)

    def step(number: int) -> float:
        optimizer.zero_grad()
        loss = model.loss(batches[number])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        return loss.item()

    return step


def opennmt_step(workload: Workload, side: str) -> Callable[[int], float]:
    """One update by OpenNMT-py's own trainer; `side` is opennmt:ATTENTION[+copy][+coverage][+nofeed].

    Its own functions make the tensors, from the same rows, before the clock starts.
    """
    from types import ModuleType

    for missing in ("spacy", "fasttext"):  # imported at its start, not used here
        sys.modules[missing] = ModuleType(missing)
    import onmt
    from onmt.inputters.inputter import build_vocab
    from onmt.inputters.text_utils import _addcopykeys, numericalize, tensorify
    from onmt.model_builder import build_model
    from onmt.opts import train_opts
    from onmt.trainer import build_trainer
    from onmt.utils.optimizers import Optimizer
    from onmt.utils.parse import ArgumentParser

    attention, *flags = side.removeprefix("opennmt:").split("+")
    sizes = workload.sizes
    vocabulary = Path(sys.argv[1]).with_suffix(".vocabulary")
    vocabulary.write_text("".join(f"{word}\n" for word in workload.words), encoding="utf-8")
    arguments = [
        "-data", "{}", "-src_vocab", str(vocabulary), "-share_vocab", "-src_vocab_size", str(sizes.vocabulary),
        "-tgt_vocab_size", str(sizes.vocabulary), "-encoder_type", "brnn", "-rnn_type", "LSTM", "-layers", "1",
        "-word_vec_size", str(sizes.embedding), "-hidden_size", str(2 * sizes.hidden), "-share_embeddings",
        "-global_attention", attention, "-dropout", "0", "-optim", "adagrad", "-learning_rate", "0.15",
        "-adagrad_accumulator_init", "0.1", "-max_grad_norm", "2", "-model_dtype", "fp32",
        "-batch_type", "sents", "-batch_size", str(sizes.batch), "-save_model", "unused",
    ]  # fmt: skip
    if "copy" in flags:
        arguments += ["-copy_attn", "-reuse_copy_attn"]
    if "coverage" in flags:
        arguments += ["-coverage_attn", "-lambda_coverage", "1"]
    if "nofeed" in flags:
        arguments += ["-input_feed", "0"]
    parser = ArgumentParser()
    train_opts(parser)
    options, _ = parser.parse_known_args(arguments)
    ArgumentParser.update_model_opts(options)
    ArgumentParser.validate_model_opts(options)
    options.data, options.data_task = {}, options.model_task
    vocabularies = build_vocab(options, {"src": [], "tgt": []})
    model = build_model(options, options, vocabularies, None, -1)
    trainer = build_trainer(options, -1, model, vocabularies, Optimizer.from_opt(model, options))
    trainer.accum_count = 1
    batches = []
    for batch in workload.batches:
        examples = []
        for source, target in batch:
            example = {"src": {"src": " ".join(source)}, "tgt": {"tgt": " ".join(target)}, "cid": "", "align": None,
                       "cid_line_number": 0}  # fmt: skip
            example = numericalize(vocabularies, example)
            if "copy" in flags:
                example = _addcopykeys(vocabularies, example)
            examples.append((example, 0))
        batches.append(tensorify(vocabularies, examples, torch.device("cpu")))
    model.train()

    def step(number: int) -> float:
        statistics = onmt.utils.Statistics()
        batch = batches[number]
        words = int((batch["tgt"][:, 1:, 0] != trainer.train_loss.padding_idx).sum())
        trainer._gradient_accumulation([batch], words, onmt.utils.Statistics(), statistics)
        return statistics.loss / words

    return step


def gemm_peak() -> float:
    """GFLOP/s of CPU time of a square product of this machine's library, the best of a few."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = 0.0
    for _ in range(6):
        start = time.process_time()
        a @ b
        best = max(best, 2 * 1024**3 / (time.process_time() - start) / 1e9)
    return best


def main() -> None:
    path, side, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # a peer may print
    workload = Workload.load(path)
    if side == "gemm":
        step: Callable[[int], float] = lambda _: gemm_peak()  # noqa: E731
    else:
        makers = {"precis": precis_step, "port": port_step, "opennmt": opennmt_step}
        step = makers[side.replace("+", ":").split(":")[0]](workload, side)
    before = _peak_memory()
    print(json.dumps({"ready": side}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        numbers = range(request["first"], request["first"] + request["number"])
        wall, cpu = time.perf_counter(), time.process_time()
        if request.get("profile"):
            print(json.dumps({"profile": profile(step, numbers)}), file=answers, flush=True)
            continue
        results = [step(number % max(1, len(workload.batches))) for number in numbers]
        answer = {
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
            "last": results[-1],
            "memory": _peak_memory(),
            "memory_before": before,
        }
        print(json.dumps(answer), file=answers, flush=True)


def profile(step: Callable[[int], float], numbers: range, most: int = 12) -> list[tuple[str, float]]:
    """Operations with their own share of the CPU time of some updates, the largest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for number in numbers:
            step(number)
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(times.values())
    largest = sorted(times.items(), key=lambda item: -item[1])[:most]
    return [(name, time / total) for name, time in largest]


def _peak_memory() -> float:
    """Most memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
