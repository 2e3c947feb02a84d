"""SPDL: a pipeline of threads. Row groups are read by pyarrow, tar files by its own parser, images by its own decoder.

Stages as its documentation advises: sources in a random order, reading and decoding with as many tasks as cores, frames
of a batch converted together. Its decoder needs FFmpeg's libraries on the machine; where these are not installed, the
same function decodes as everywhere else.
"""

from __future__ import annotations

import ctypes.util
import random
from collections.abc import Iterator
from typing import Any

from benchmarks.streaming.case import Case
from benchmarks.streaming.images import SIDE, crops, each
from benchmarks.streaming.rivals.storage import arrow_files

ENVIRONMENT = "rivals"


def refuses(case: Case) -> str | None:
    """Everything can be written as its stages."""
    return None


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return True


def load(case: Case) -> None:
    """SPDL and pyarrow."""
    import spdl.io
    import spdl.pipeline

    assert spdl.io.demux_image


class Reader:
    """Builds the pipeline for each epoch."""

    def __init__(self, case: Case) -> None:
        import pyarrow.parquet as pq

        self.case = case
        self.filesystem, self.paths = arrow_files(case)
        self.units: list[tuple[str, int]] = [(path, 0) for path in self.paths]
        if case.format == "parquet":
            self.footers = {path: pq.ParquetFile(path, filesystem=self.filesystem).metadata for path in self.paths}
            self.units = [(path, g) for path, footer in self.footers.items() for g in range(footer.num_row_groups)]

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """All rows, row groups or files in a random order."""
        from spdl.pipeline import PipelineBuilder

        units = list(self.units)
        random.Random(number).shuffle(units)
        read = self._read_tar if self.case.format == "tar" else self._read_group
        builder = PipelineBuilder().add_source(units).pipe(read, concurrency=self.case.cores, max_failures=0)
        builder = builder.disaggregate()
        if self.case.decode:
            decode = _decoded if ctypes.util.find_library("avutil") else _cropped
            builder = builder.pipe(decode, concurrency=self.case.cores, max_failures=0)
        pipeline = builder.add_sink(8).build(num_threads=2 * self.case.cores)
        with pipeline.auto_stop():
            yield from pipeline.get_iterator()

    def _read_group(self, unit: tuple[str, int]) -> list[tuple[Any, list[Any]]]:
        """The batches of a row group, its rows in a random order."""
        import numpy as np
        import pyarrow.parquet as pq

        path, group = unit
        with pq.ParquetFile(path, filesystem=self.filesystem, metadata=self.footers[path]) as file:
            table = file.read_row_group(group, columns=["id", *self.case.columns], use_threads=False)
        order = np.random.default_rng(group).permutation(len(table))
        batches = (table.take(order[at : at + self.case.batch]) for at in range(0, len(order), self.case.batch))
        return [(batch["id"], [batch[name] for name in self.case.columns]) for batch in batches]

    def _read_tar(self, unit: tuple[str, int]) -> list[tuple[Any, list[Any]]]:
        """The batches of a tar file."""
        import spdl.io

        if self.filesystem is None:
            with open(unit[0], "rb") as file:
                members = [(name, bytes(value)) for name, value in spdl.io.iter_tarfile(file)]
        else:
            with self.filesystem.open_input_file(unit[0]) as file:
                members = [(name, bytes(value)) for name, value in spdl.io.iter_tarfile(file.read())]
        random.Random(unit[0]).shuffle(members)
        pieces = (members[at : at + self.case.batch] for at in range(0, len(members), self.case.batch))
        return [([int(name[:-4]) for name, _ in piece], [[value for _, value in piece]]) for piece in pieces]


def _cropped(batch: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
    """A batch with its images decoded by the function that all share."""
    return batch[0], [crops(batch[1][0])]


def _decoded(batch: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
    """A batch with its images decoded and cropped, each at a place of its own."""
    import spdl.io

    frames = []
    for value in each(batch[1][0]):
        x, y = random.randrange(500 - SIDE + 1), random.randrange(375 - SIDE + 1)
        packets = spdl.io.demux_image(bytes(value))
        frames.append(spdl.io.decode_packets(packets, filter_desc=f"crop={SIDE}:{SIDE}:{x}:{y},format=pix_fmts=rgb24"))
    return batch[0], [spdl.io.to_numpy(spdl.io.convert_frames(frames))]
