"""Where the processor seconds of a shuffled stream go, beside what decoding alone takes.

    python -m benchmarks.streaming.costs [--megabytes 256] [--rounds 5] [--work tokens-list-zstd jpeg]

In one process, CPU seconds of each thread (which other work on the machine changes less than the clock), medians of
passes behind the first. Decoding is measured twice: each row group let go of at once, as the bare limit does, and with
as many decoded bytes held as a shuffle holds, so that what is decoded goes out to memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.streaming.touch import Tally
from benchmarks.streaming.works import WORKS, write
from runner import Stream
from runner.data.stream.prefetch import Prefetch
from runner.data.stream.workers import Workers

#: Decoded bytes that a shuffle of such data holds: its lanes' blocks.
HELD_BYTES = 64 << 20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256, help="of each work")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", nargs="+", choices=list(WORKS), default=["tokens-list-zstd", "jpeg"])
    asked = parser.parse_args()
    head = "bare decoding", "the same, held", "runner", "of it decoding", "gathering", "the consumer"
    print("| CPU s/GB |", " | ".join(head), "|")
    print("|---" * (len(head) + 1) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.work:
            print("|", " | ".join([name, *_row(name, Path(folder), asked.megabytes, asked.rounds)]), "|", flush=True)


def _row(name: str, folder: Path, megabytes: int, rounds: int) -> list[str]:
    work = WORKS[name]
    written = write(work.dataset, folder, megabytes)
    columns = ["id", *work.columns]
    files = [str(written.folder / name) for name in written.files]
    found: list[list[float]] = []
    with Stream(str(written.folder), work.batch, columns=columns, epochs=1, tail="wrap", as_="numpy") as stream:
        for _ in range(rounds + 1):
            bare = _seconds(lambda: _decode(files, columns, 0))
            held = _seconds(lambda: _decode(files, columns, HELD_BYTES))
            found.append([bare, held, *_pass(stream, work.columns)])
    medians = [statistics.median(each) for each in zip(*found[1:], strict=True)]
    size = sum(written.payload[column] for column in work.columns)
    return [f"{seconds / size * 1e9:.2f}" for seconds in medians]


def _decode(files: list[str], columns: list[str], most: int) -> None:
    """All row groups, each let go of once more than `most` bytes are held behind it."""
    held: deque[pa.Table] = deque()
    size = 0
    for path in files:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                held.append(file.read_row_group(group, columns=columns, use_threads=False))
                size += held[-1].nbytes
                while size > most:
                    size -= held.popleft().nbytes


def _pass(stream: Stream, columns: tuple[str, ...]) -> tuple[float, float, float, float]:
    """CPU seconds of a pass: all, and those of the threads that decode, of the one that gathers, and of this one."""
    tally = Tally()

    def consume() -> None:
        for batch in stream:
            tally.add(batch["id"], [batch[name] for name in columns])

    begin = time.process_time()
    with _timed(Workers) as decoding, _timed(Prefetch) as gathering:
        own = _seconds(consume)
        stream.close()
    return time.process_time() - begin, sum(decoding), sum(gathering), own


@contextmanager
def _timed(kind: Any) -> Iterator[list[float]]:
    """CPU seconds of each thread of this kind that ends meanwhile."""
    run, seconds = kind._run, []

    def timed(self: Any) -> None:
        seconds.append(_seconds(lambda: run(self)))

    kind._run = timed
    try:
        yield seconds
    finally:
        kind._run = run


def _seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this thread."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


if __name__ == "__main__":
    main()
