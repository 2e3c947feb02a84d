"""What it costs to have batches transformed elsewhere: by sending them, and by having workers read for themselves.

    python -m benchmarks.transforms [--megabytes 64] [--rounds 3]

In CPU seconds of one process (which other work on the machine hardly changes), for one pass over tokens: int32 lists of
512, zstd. First the pass itself; then packing each batch and unpacking what comes back, as a rank does; then what N
workers take that have turns of so many steps, measured on one of them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runner import Stream
from runner.train.feeding.parcel import pack, unpack

_LENGTH, _WORKERS, _TURNS = 512, 4, (8, 32, 128)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), asked.megabytes << 20)
        print("| rows a batch | what | CPU s |\n|---|---|---|")
        for rows in (64, 1024):
            print(f"| {rows} | the pass | {_median(partial(_pass, folder, rows), asked.rounds):.2f} |")
            print(f"| {rows} | and sent | {_median(partial(_sent, folder, rows), asked.rounds):.2f} |")
        for turn in _TURNS:
            each = _median(partial(_turns, folder, 64, turn), asked.rounds)
            print(f"| 64 | {_WORKERS} workers, turns of {turn} steps, together | {_WORKERS * each:.2f} |")


def _write(folder: Path, size: int) -> None:
    draw = np.random.default_rng(0)
    rows = size // (4 * _LENGTH) // 4
    for shard in range(4):
        values = pa.array(draw.integers(0, 50_000, rows * _LENGTH).astype(np.int32))
        lists = pa.FixedSizeListArray.from_arrays(values, _LENGTH).cast(pa.list_(pa.int32()))
        pq.write_table(pa.table({"x": lists}), folder / f"{shard}.parquet", row_group_size=2048, compression="zstd")


def _stream(folder: str, rows: int) -> Stream:
    return Stream(f"{folder}/*.parquet", batch_size=rows, as_="numpy")


def _pass(folder: str, rows: int) -> None:
    for _ in _stream(folder, rows):
        pass


def _sent(folder: str, rows: int) -> None:
    for batch in _stream(folder, rows):
        unpack([bytearray(part) for part in pack(batch)])


def _turns(folder: str, rows: int, turn: int) -> None:
    """One worker of several: every so manieth turn, each begun at its place."""
    stream = _stream(folder, rows)
    start, steps = stream.state_dict(), len(stream)
    for first in range(0, steps, turn * _WORKERS):
        stream.load_state_dict({**start, "samples_seen": first * rows})
        for _ in range(min(turn, steps - first)):
            next(stream)
    stream.close()


def _median(work: Callable[[], None], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
