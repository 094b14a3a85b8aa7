"""Small models and batches for the tests of the models."""

import pytest
import torch

from precis.models.build import build_model, options_of
from precis.models.source import BOS_ID, EOS_ID, UNK_ID, Source, Target

# the machine that tests is often shared, and small tensors gain nothing from more threads
torch.set_num_threads(1)

SMALL = {
    "source_vocabulary_size": 23,
    "target_vocabulary_size": 19,
    "shared_vocabulary": False,
    "cell": "lstm",
    "layers": 1,
    "bidirectional": True,
    "embedding_size": 6,
    "hidden_size": 4,
    "decoder_size": 7,
    "tie_embeddings": False,
    "readout": "tanh",
    "dropout": 0.0,
    "word_dropout": 0.0,
    "label_smoothing": 0.0,
    "attention": "general",
    "input_feeding": False,
    "attend_with_cell": False,
    "intra_attention": False,
    "coverage": False,
    "coverage_weight": 1.0,
    "generation": "mixture",
    "pointing_weight": 0.0,
}


@pytest.fixture
def make_model():
    """A small model by name, with some options changed; the same weights for the same options."""

    def make(name, **changes):
        options = {**SMALL, **changes}
        torch.manual_seed(11)
        model = build_model(name, **{key: options[key] for key in options_of(name)})
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key.endswith("w_c"):  # it starts at 0, where coverage would do nothing
                    parameter.normal_()
        return model

    return make


@pytest.fixture
def make_batch():
    """Random documents and summaries: words, source OOVs copied and not, and words that nothing can produce."""

    def make(num_rows=5, source_size=23, target_size=19, seed=0, longest=12):
        generator = torch.Generator().manual_seed(seed)

        def number(low, high):
            return int(torch.randint(low, high, (1,), generator=generator))

        sources, extended, inputs, targets = [], [], [], []
        for row in range(num_rows):
            length = longest if row == 0 else number(1, longest + 1)
            num_oovs = number(0, 3)
            words = [number(4, target_size + num_oovs) for _ in range(length)]
            extended.append(words)
            sources.append([UNK_ID if word >= min(source_size, target_size) else word for word in words])
            summary = []
            for _ in range(number(1, 6)):
                kind = number(0, 3)
                summary.append(
                    UNK_ID if kind == 0 else words[number(0, length)] if kind == 1 else number(4, target_size)
                )
            targets.append([*summary, EOS_ID])
            inputs.append([BOS_ID, *(UNK_ID if word >= target_size else word for word in summary)])

        def pad(rows, width):
            return torch.tensor([row + [0] * (width - len(row)) for row in rows])

        steps = max(len(row) for row in targets)
        lengths = torch.tensor([len(row) for row in sources])
        source = Source(pad(sources, longest), pad(extended, longest), lengths, 2)
        return source, Target(pad(inputs, steps), pad(targets, steps))

    return make
