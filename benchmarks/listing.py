"""A store with many runs, and a run with a long log: seconds and requests of what looks at them.

    python benchmarks/listing.py [--runs 100000] [--days 365] [--entries 2000]

In a folder, and on the S3 server of the tests where it has been compiled. The runs are lines of the index, as many on
each day; the log is that of a training with a checkpoint an entry. Each number is the median of three.
"""

from __future__ import annotations

import argparse
import collections
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from runner.onebox.build import program  # noqa: E402
from runner.onebox.versions import S3  # noqa: E402
from runner.record.bundle import Bundle  # noqa: E402
from runner.record.entries import CheckpointPublished, Submitted  # noqa: E402
from runner.record.finding import Wanted, find_run, select  # noqa: E402
from runner.record.index import LIVE, IndexLine, new_run_id  # noqa: E402
from runner.record.run_spec import RunSpec  # noqa: E402
from runner.store.store import LOCAL, Store  # noqa: E402
from tests.local.s3server import serve  # noqa: E402
from tests.unit.record.spec_kit import SPEC  # noqa: E402

NEWEST = 20
BEGAN = time.time() - 400 * 86400


def fill_index(folder: Path, runs: int, days: int) -> None:
    """Lines of runs that have ended, written as files: on this S3 server an object is a file, too."""
    for number in range(runs):
        line = IndexLine(
            new_run_id("digits", BEGAN + number * days * 86400 / runs), "digits", "succeeded", number % 9000
        )
        path = folder / line.folder / line.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_log(store: Store, entries: int) -> str:
    """A run whose log has so many entries. Returns its id."""
    bundle = Bundle(store, new_run_id("digits", BEGAN - 86400))
    bundle.log.append(Submitted("digits", (("train",),), by="me"))
    for step in range(1, entries):
        checkpoint = {"key": f"checkpoints/train/{step:09d}-1", "metrics": {"loss": 1 / step}, "best": False}
        bundle.log.append(CheckpointPublished("train", step, sha256="0" * 64, **checkpoint))
    bundle.write_spec(RunSpec.from_json(SPEC))
    bundle.index("digits", "succeeded", 60.0)
    return bundle.run_id


@contextmanager
def counted(store: Store) -> Iterator[collections.Counter[str]]:
    """The requests of the block: those of the client of S3; in a folder the calls of the store."""
    if store.kind == LOCAL:
        owner, names = Store, ("list", "get", "exists", "create", "put", "delete")
    else:
        from aiobotocore.client import AioBaseClient

        owner, names = AioBaseClient, ("_make_api_call",)
    calls: collections.Counter[str] = collections.Counter()
    originals = {name: getattr(owner, name) for name in names}

    def counting(name: str) -> Callable[..., Any]:
        def call(self: Any, what: str = "", *rest: Any, **named: Any) -> Any:
            calls[what if name == "_make_api_call" else name] += 1
            return originals[name](self, what, *rest, **named)

        return call

    for name in names:
        setattr(owner, name, counting(name))
    try:
        yield calls
    finally:
        for name, original in originals.items():
            setattr(owner, name, original)


def measure(what: str, store: Store, act: Callable[[], Any], rounds: int = 3) -> None:
    """Print the seconds of an act, and what it asked for."""
    seconds = []
    with counted(store) as calls:
        for _ in range(rounds):
            calls.clear()
            begun = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - begun)
    told = ", ".join(f"{count} {name}" for name, count in sorted(calls.items()))
    print(f"{what:48}{statistics.median(seconds):8.3f} s   {told}", flush=True)


def measure_command(words: list[str], store: Store, environment: dict[str, str]) -> None:
    """Print the seconds of a command as a process."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        command = [sys.executable, "-m", "runner", *words, "--store", store.url]
        subprocess.run(command, env={**os.environ, **environment}, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - begun)
    print(f"{'runner ' + ' '.join(words) + ', a process':48}{statistics.median(seconds):8.3f} s", flush=True)


def look(store: Store, run_id: str, environment: dict[str, str]) -> None:
    """Everything that is measured, of one store."""
    other = Bundle(store, new_run_id("digits"))
    measure("a log, read afresh", store, lambda: Bundle(store, run_id).log.read())
    measure("a change of state", store, lambda: other.index("digits", LIVE, time.time()))
    other.leave_index()
    measure(f"the {NEWEST} newest runs", store, lambda: select(store, Wanted(), NEWEST))
    measure("all runs", store, lambda: select(store, Wanted()))
    measure("a run by its id", store, lambda: find_run(store, run_id))
    measure_command(["ps"], store, environment)
    measure_command(["ps", "--all", "-o", "json"], store, environment)
    measure_command(["status", run_id], store, environment)


def main() -> None:
    """Fill stores and look at them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 100_000), ("days", 365), ("entries", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, shared = Path(name, "folder"), Path(name, "s3")
        store = Store(str(folder))
        fill_index(folder, arguments.runs, arguments.days)
        print(f"in a folder: {arguments.runs:,} runs, a log of {arguments.entries:,} entries")
        look(store, write_log(store, arguments.entries), {})
        if not program(S3).exists():
            print("the S3 server is not compiled: pytest tests/local/test_object_stores.py compiles it")
            return
        with serve(shared) as server:
            remote = Store(f"s3://{server.bucket}/runs", server.options)
            fill_index(shared / "root" / server.bucket / "runs", arguments.runs, arguments.days)
            print(f"on S3: {arguments.runs:,} runs, a log of {arguments.entries:,} entries")
            look(remote, write_log(remote, arguments.entries), server.environment)


if __name__ == "__main__":
    main()
