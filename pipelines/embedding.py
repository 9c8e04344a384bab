"""The catalogue's vectors as a Beam job: thousands of items at a time, on any number of workers."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
from apache_beam.utils.shared import Shared

from pipelines.beam_runner import new_pipeline, run
from pipelines.examples.inputs import GROUP
from pipelines.readers.chunks import Chunk
from pipelines.readers.files import find_files, plan_chunks, read_chunk
from towers.config import ITEM_ID
from towers.exported_tower import ExportedTower


def embed_catalogue(
    catalogue: pathlib.Path,
    tower: pathlib.Path,
    dim: int,
    out_dir: pathlib.Path,
    pipeline_args: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes `vectors.npy`, float32 `[num_items, dim]`, and `items.parquet`, their ids and groups.

    Workers write their rows into the one file, so a row that is written twice is the same.

    Args:
        catalogue: `catalogue.parquet`, a file or a folder of files.
        tower: SavedModel of the candidate tower.
        dim: Width of the vectors.
        out_dir: An empty folder of a disk that all workers can write to.
        pipeline_args: Beam's own options. By default the pipeline runs in this process.

    Returns:
        `items` and `dim`.
    """
    # Workers run in other folders.
    catalogue, tower, out_dir = (path.absolute() for path in (catalogue, tower, out_dir))
    pattern = str(catalogue / "*.parquet") if catalogue.is_dir() else str(catalogue)
    chunks = plan_chunks(find_files(pattern, "catalogue"))
    starts = list(itertools.accumulate((chunk.rows for chunk in chunks), initial=0))
    path = out_dir / "vectors.npy"
    shape = (starts[-1], dim)
    np.lib.format.open_memmap(path, "w+", np.float32, shape).flush()
    pipeline = new_pipeline(pipeline_args)
    _ = (
        pipeline
        | "Chunks of the catalogue" >> beam.Create(list(zip(starts[:-1], chunks, strict=True)))
        | "Embed" >> beam.ParDo(EmbedItems(tower))
        | "Write vectors" >> beam.Map(_write_rows, path)
    )
    run(pipeline)
    # What a worker in this process shared last, it keeps until it shares something else; but
    # TensorFlow's models should be gone before the interpreter is.
    Shared().acquire(set)
    items = pq.read_table(catalogue, columns=[ITEM_ID, GROUP])
    pq.write_table(items, out_dir / "items.parquet")
    return {"items": starts[-1], "dim": dim}


class EmbedItems(beam.DoFn):
    """Rows of the catalogue to their vectors, `(first row, float32 [num_rows, dim])`.

    A worker loads the tower once, however many threads it has.

    Args:
        tower: SavedModel of the candidate tower.
    """

    def __init__(self, tower: pathlib.Path) -> None:
        self._path, self._shared = tower, Shared()

    def setup(self) -> None:
        """Loads the tower."""
        self._tower = self._shared.acquire(lambda: ExportedTower(self._path), tag=str(self._path))

    def process(self, element: tuple[int, Chunk]) -> Iterator[tuple[int, np.ndarray]]:
        """See the class."""
        start, chunk = element
        for block in read_chunk(chunk, self._tower.features):
            yield start, self._tower.embed(block.table)
            start += len(block.table)


def _write_rows(rows: tuple[int, np.ndarray], path: pathlib.Path) -> None:
    start, vectors = rows
    first_byte = np.lib.format.open_memmap(path, "r").offset
    # Of a page of memory that two workers share, the last one to write would win.
    with path.open("r+b", buffering=0) as file:
        file.seek(first_byte + start * vectors.shape[1] * vectors.itemsize)
        file.write(vectors.tobytes())
