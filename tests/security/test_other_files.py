"""Pickles in the place of every other file that is read: none runs."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from precis.batches.encoded import SCHEMA, EncodedCorpus
from precis.commands.recipe import recipe
from precis.corpora.columns import Columns
from precis.corpora.files import FilesReader, Limits, Retries
from precis.errors import PrecisError
from precis.files import read_ordinary
from precis.params import load_params
from precis.registry.resolve import answer_in
from precis.stages.prepare import check_raw
from precis.text.vocabulary import Vocabulary

LIMITS = Limits(row_bytes=100_000, decompressed_bytes=10**8, decompression_ratio=200)
COLUMNS = Columns(document="document", summary="summary")


def read_corpus(path: Path) -> list:
    patterns = {"train": None, "validation": None, "test": None}
    return list(
        FilesReader(str(path), patterns, COLUMNS, LIMITS, Retries(1, 0.0), path.parent / "fetched").read()
    )


@pytest.mark.parametrize("form", ["pickled", "torch_checkpoint"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("train.arrow", EncodedCorpus),
        ("shared.txt", Vocabulary.load),
        ("params.yaml", load_params),
        ("recipe.yaml", lambda path: recipe(str(path))),
        ("corpus.jsonl", read_corpus),
        ("corpus.csv", read_corpus),
        ("corpus.parquet", read_corpus),
        ("corpus.jsonl.gz", read_corpus),
        ("corpus.jsonl.zst", read_corpus),
        ("summary.json", lambda path: answer_in(str(path))),
        ("checksums.json", lambda path: check_raw(path.parent)),
    ],
)
def test_a_pickle_in_place_of_a_file_is_refused(tmp_path, payload, name, read, form):
    path = tmp_path / name
    path.write_bytes(getattr(payload, form)())
    with pytest.raises(PrecisError) as error:
        read(path)
    assert len(str(error.value)) < 1_000


def hostile_field(payload) -> pa.Field:
    """A column of the kind for which old versions of Arrow unpickled what the file says (CVE-2023-47248)."""
    kind = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": payload.pickled(),
    }
    return pa.field("document", pa.string(), metadata=kind)


def test_an_arrow_file_with_a_pickled_type_does_not_run_it(tmp_path, payload):
    schema = pa.schema([SCHEMA.field(0), hostile_field(payload)])
    path = tmp_path / "train.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array(["a"]), pa.array(["b"])], schema=schema))
    with pytest.raises(PrecisError, match="other columns"):
        EncodedCorpus(path)


def test_a_parquet_corpus_with_a_pickled_type_does_not_run_it(tmp_path, payload):
    schema = pa.schema([hostile_field(payload), pa.field("summary", pa.string())])
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table([pa.array(["a text"]), pa.array(["text"])], schema=schema), path)
    (row,) = read_corpus(path)
    assert row.document == "a text"


def test_a_checkpoint_of_pickles_does_not_run(tmp_path, payload):
    """Also one whose digest is right: who can write the one can write the other."""
    import hashlib

    from precis.training.checkpoints import AtomicCheckpointIO, newest_whole_checkpoint

    for content in (payload.pickled(), payload.torch_checkpoint()):
        path = tmp_path / "00000001.ckpt"
        path.write_bytes(content)
        path.with_suffix(".ckpt.sha256").write_text(hashlib.sha256(content).hexdigest())
        assert newest_whole_checkpoint(tmp_path)[0] == path
        for weights_only in (None, False, True):
            with pytest.raises(Exception, match=r"(?i)weights|unpickl|unsupported|load"):
                AtomicCheckpointIO().load_checkpoint(path, weights_only=weights_only)


def test_pickled_embeddings_do_not_run(tmp_path, payload, model_folder):
    from precis.models.pretrained import initialise_embeddings
    from precis.models.storage import load_model

    model = load_model(model_folder)
    words = [line.split("\t")[0] for line in (model_folder / "shared.txt").read_text().splitlines()]
    for content in (payload.pickled(), payload.torch_checkpoint()):
        path = tmp_path / "vectors.txt"
        path.write_bytes(content)
        with pytest.raises(PrecisError):
            initialise_embeddings(model, path, words, words)


@pytest.mark.timeout(120)
def test_a_zstd_bomb_of_one_line_takes_no_memory(tmp_path):
    import resource

    import zstandard

    path = tmp_path / "corpus.jsonl.zst"
    writer = zstandard.ZstdCompressor(level=19).compressobj()
    with path.open("wb") as file:
        for _ in range(100):
            file.write(writer.compress(b"0" * 10_000_000))
        file.write(writer.flush())
    assert path.stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PrecisError, match=r"times its size|unpacks to more"):
        read_corpus(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KB, of 1 GB


def test_what_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(10**10)  # of nothing
    with pytest.raises(PrecisError, match="larger than 1,000 bytes"):
        read_ordinary(path, 1_000)


def test_a_manifest_of_any_json_is_refused(model_folder):
    from precis.manifest import check_manifest

    for value in ([], {}, None, 1, "x", {"model.json": 1}, {"model.json": ["a"]}, {"model.json": "0" * 63}):
        (model_folder / "manifest.json").write_text(json.dumps(value))
        with pytest.raises(PrecisError):
            check_manifest(model_folder)
