from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from precis.batches.batch import make_batch
from precis.batches.bucket_sampler import LengthSampler, TrainingSampler
from precis.batches.encoded import SCHEMA, EncodedCorpus, write_encoded
from precis.errors import PrecisError

BOS, EOS, UNK = 2, 3, 1


def row(number: int, source: list[int], oovs: list[str], target: list[int]) -> dict:
    return {
        "id": f"row/{number}",
        "source_ids": [word if word < 10 else UNK for word in source],
        "source_extended_ids": source,
        "source_oovs": oovs,
        "target_ids": target,
    }


@pytest.fixture
def corpus(tmp_path) -> EncodedCorpus:
    rows = [row(0, [5, 10, 6], ["a"], [10, 5]), row(1, [7], [], [8, 9, 4]), row(2, [10, 11], ["b", "c"], [])]
    first, second = (pa.RecordBatch.from_pylist(part, schema=SCHEMA) for part in (rows[:2], rows[2:]))
    assert write_encoded([first, second], tmp_path / "rows.arrow") == 3
    return EncodedCorpus(tmp_path / "rows.arrow")


def test_rows_come_back_by_number_across_record_batches(corpus):
    assert len(corpus) == 3
    assert corpus.source_lengths.tolist() == [3, 1, 2]
    assert corpus.target_lengths.tolist() == [2, 3, 0]
    assert corpus[1].target_ids.tolist() == [8, 9, 4]
    assert corpus[2].source_extended_ids.tolist() == [10, 11]
    assert corpus[2].num_oovs == 2
    assert corpus.row_id(2) == "row/2"
    assert corpus.source_oovs(2) == ["b", "c"]


def test_a_batch_is_padded_and_its_decoder_reads_no_word_outside_the_vocabulary(corpus):
    batch = make_batch([0, 1], [corpus[0], corpus[1]], target_vocabulary_size=10)
    assert batch.source_ids.tolist() == [[5, UNK, 6], [7, 0, 0]]
    assert batch.source_extended_ids.tolist() == [[5, 10, 6], [7, 0, 0]]
    assert batch.source_lengths.tolist() == [3, 1]
    assert batch.target_inputs.tolist() == [[BOS, UNK, 5, 0], [BOS, 8, 9, 4]]
    assert batch.target_ids.tolist() == [[10, 5, EOS, 0], [8, 9, 4, EOS]]
    assert batch.num_oovs == 1
    assert batch.num_target_tokens == 7


def test_a_file_of_other_columns_or_cut_short_is_refused(tmp_path, corpus):
    other = pa.table({"id": ["a"]})
    with pa.ipc.new_file(str(tmp_path / "other.arrow"), other.schema) as writer:
        writer.write_table(other)
    with pytest.raises(PrecisError, match="other columns"):
        EncodedCorpus(tmp_path / "other.arrow")
    whole = (tmp_path / "rows.arrow").read_bytes()
    (tmp_path / "cut.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PrecisError, match="no Arrow file"):
        EncodedCorpus(tmp_path / "cut.arrow")
    with pytest.raises(PrecisError, match="run `dvc repro encode` first"):
        EncodedCorpus(tmp_path / "missing.arrow")


def sampler(num_batches: int, seed: int = 3, first: int = 0) -> TrainingSampler:
    lengths = np.random.default_rng(0).integers(1, 200, size=1_003)
    return TrainingSampler(
        lengths, lengths // 10, batch_size=8, first_batch=first, num_batches=num_batches, seed=seed
    )


def test_every_row_is_seen_once_an_epoch():
    per_epoch = 126  # 1,003 rows in batches of 8
    batches = list(sampler(2 * per_epoch))
    for epoch in (batches[:per_epoch], batches[per_epoch:]):
        assert Counter(number for batch in epoch for number in batch) == Counter(range(1_003))
    assert batches[:per_epoch] != batches[per_epoch:]


def test_the_order_is_decided_by_the_seed():
    assert list(sampler(200)) == list(sampler(200))
    assert list(sampler(200)) != list(sampler(200, seed=4))


@pytest.mark.parametrize("start", [0, 1, 125, 126, 127, 199, 200])
def test_a_training_goes_on_with_the_batches_that_it_has_not_seen(start):
    resumed = sampler(200)
    resumed.start_batch = start
    assert list(resumed) == list(sampler(200))[start:]
    assert len(resumed) == 200


def test_a_later_phase_takes_up_the_order_where_the_first_one_left_it():
    assert list(sampler(50, first=110)) == list(sampler(160))[110:]


def test_batches_hold_rows_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 200, size=1_003)
    batches = list(sampler(126))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.05 * lengths.sum()


def test_validation_sees_every_row_once_the_longest_first():
    lengths = np.array([3, 9, 1, 7, 5])
    batches = list(LengthSampler(lengths, np.zeros(5, dtype=np.int64), batch_size=2))
    assert batches == [[1, 3], [4, 0], [2]]
