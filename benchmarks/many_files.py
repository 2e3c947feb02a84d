"""Very many tiny files on a disk: seconds to plan them, to the first batch, and to go on in their midst.

    python benchmarks/many_files.py [--files 100000] [--kinds parquet jsonl] [--folder /tmp/many]

Each file has 20 rows of a number, a fraction and a text. What is measured runs in a process of its own for each kind,
after all imports; files that are in the folder already are taken as they are. Seconds of the clock, and of processor
time in brackets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

T = TypeVar("T")
ROWS, BATCH, SOME = 20, 32, 100


def make(folder: Path, kind: str, files: int) -> None:
    """The files that are not there yet, a thousand to a folder."""
    for number in range(files):
        path = folder / f"{number // 1000:05}" / f"{number:08}.{kind}"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        ids = np.arange(ROWS * number, ROWS * (number + 1))
        table = pa.table({"id": ids, "x": ids / 7, "text": [f"row {i} of a file" for i in ids.tolist()]})
        if kind == "parquet":
            pq.write_table(table, path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


def measured(what: str, act: Callable[[], T]) -> T:
    """What an act gives; its seconds are printed."""
    clock, cpu = time.perf_counter(), time.process_time()
    given = act()
    print(f"  {what:44}{time.perf_counter() - clock:8.2f} s ({time.process_time() - cpu:.2f})", flush=True)
    return given


def look(folder: str) -> None:
    """Everything that is measured of one folder; all is imported before."""
    import torch  # noqa: F401

    from runner.data.manifest import Manifest
    from runner.data.source_manifest import resolve
    from runner.data.stream import Stream

    def go_on(stream: Stream, state: dict[str, Any]) -> Any:
        stream.load_state_dict(state)
        return next(stream)

    manifest = measured("the plan", lambda: resolve(folder))
    data = measured("the manifest as bytes", manifest.to_bytes)
    print(f"  {len(manifest.shards):,} files, {manifest.rows:,} rows, a manifest of {len(data) / 1e6:.1f} MB")
    kept = measured("the manifest from bytes", lambda: Manifest.from_bytes(data))
    stream = measured("a stream of it, with its order", lambda: Stream(kept, BATCH, seed=1, epochs=2))
    measured("the first batch", lambda: next(stream))
    measured(f"the next {SOME} batches", lambda: [next(stream) for _ in range(SOME)])
    state = measured("the state", stream.state_dict)
    stream.close()
    fresh = Stream(kept, BATCH, seed=1, epochs=2)
    measured("resumed there, its first batch", lambda: go_on(fresh, state))
    fresh.close()


def main() -> None:
    """Make the files, and look at them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--kinds", nargs="+", default=["parquet", "jsonl"], choices=["parquet", "jsonl"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--look", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look:
        look(arguments.look)
        return
    with tempfile.TemporaryDirectory() as name:
        for kind in arguments.kinds:
            folder = (arguments.folder or Path(name)) / f"{kind}-{arguments.files}"
            make(folder, kind, arguments.files)
            print(f"{arguments.files:,} files of {kind}:", flush=True)
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, __file__, "--look", str(folder)], env=environment, check=True)


if __name__ == "__main__":
    main()
