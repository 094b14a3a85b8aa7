"""Rows of a file by their numbers, as a worker that has only those reads them."""

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from precis.execution.engine import CHUNK_ROWS, read_rows
from precis.execution.local import LocalEngine


def write(path, sizes):
    with pq.ParquetWriter(str(path), pa.schema([("number", pa.int64()), ("text", pa.string())])) as writer:
        start = 0
        for size in sizes:
            numbers = list(range(start, start + size))
            writer.write_batch(pa.record_batch({"number": numbers, "text": [f"row {n}" for n in numbers]}))
            start += size
    return start


@settings(deadline=None)
@given(st.data(), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_rows_are_found_wherever_the_row_groups_begin(tmp_path_factory, data, sizes):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    num_rows = write(path, sizes)
    start = data.draw(st.integers(0, num_rows - 1))
    stop = data.draw(st.integers(start + 1, num_rows))
    assert read_rows(path, start, stop, ["number"]).to_pydict() == {"number": list(range(start, stop))}


def test_chunks_are_full_whatever_the_row_groups_are(tmp_path):
    num_rows = write(tmp_path / "rows.parquet", [300, CHUNK_ROWS, 17, 2 * CHUNK_ROWS, 5])
    chunks = list(LocalEngine().map_rows(tmp_path / "rows.parquet", lambda batch: batch))
    assert [chunk.num_rows for chunk in chunks] == [CHUNK_ROWS] * 3 + [num_rows - 3 * CHUNK_ROWS]
    for number, chunk in enumerate(chunks):
        start = number * CHUNK_ROWS
        assert chunk.equals(read_rows(tmp_path / "rows.parquet", start, start + chunk.num_rows))
