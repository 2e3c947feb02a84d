"""What commands ask of an object store: requests of a submit, of its whole run and of what looks at it, and seconds.

    python benchmarks/store_requests.py [s3] [gcs] [azure] [--runs 200]

Each store is that of the tests, on this machine, with a proxy before it that counts. The job is one preparation of
four shards in two processes; the store holds lines of so many runs besides. Each command is a process of its own, so
that its seconds hold the imports of the store's client, and its requests those that find out who asks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks/streaming")]

from proxy import Proxy, proxied  # noqa: E402

from runner.record.index import IndexLine, new_run_id, show  # noqa: E402
from runner.store import Store  # noqa: E402
from tests.local.object_stores import SERVERS, Server  # noqa: E402
from tests.local.servers import free_port  # noqa: E402

JOB = """
from runner import Job, Prep

def double(batch, config):
    return {"y": batch.column("i").to_numpy() * 2}

job = Job("small", [Prep("double", fn=double, source="numbers", sink="doubled", workers=2)])
"""
NUMBERS = """
import pyarrow as pa
from runner import Dataset

def make():
    for shard in range(4):
        yield pa.table({"i": pa.array(range(shard * 100, shard * 100 + 100), pa.int64())})

dataset = Dataset(make=make)
"""


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(SERVERS))
    parser.add_argument("--runs", type=int, default=200)
    told = parser.parse_args()
    for kind in told.kinds:
        serve, at = SERVERS[kind]
        port = free_port()
        with tempfile.TemporaryDirectory() as folder, serve(Path(folder), port) as server:
            fill(Store(f"{server.url}/runs", server.options), told.runs)
            with proxied(f"http://127.0.0.1:{port}") as proxy:
                measure(kind, at(urlsplit(proxy.url).port or 0), proxy, Path(folder) / "project")


def fill(store: Store, runs: int) -> None:
    """Lines of runs that have ended, of the last ten days."""
    for number in range(runs):
        began = time.time() - 10 * 86400 * (number + 1) / runs
        show(store, IndexLine(new_run_id("digits", began), "digits", "succeeded", 60.0))


def measure(kind: str, server: Server, proxy: Proxy, project: Path) -> None:
    """Print what each command takes."""
    for name, text in {"jobs/small.py": JOB, "datasets/numbers.py": NUMBERS}.items():
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text(text)
    environment = {**server.environment, "RUNNER_STORE": f"{server.url}/runs", "PYTHONPATH": str(ROOT)}
    for words in (
        ["submit", "small", "--dry-run"],
        ["submit", "small"],
        ["submit", "small"],
        ["ps"],
        ["status"],
        ["logs"],
        ["data", "ls"],
    ):
        seconds, requests = asked(words, environment, project, proxy)
        print(f"{kind:8}{' '.join(words):24}{requests:6} requests{seconds:8.2f} s", flush=True)


def asked(words: list[str], environment: Mapping[str, str], project: Path, proxy: Proxy) -> tuple[float, int]:
    """Seconds and requests of a command."""
    before, begun = proxy.counts(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "runner", *words],
        env={**os.environ, **environment},
        cwd=project,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    seconds, after = time.perf_counter() - begun, proxy.counts()
    return seconds, after.gets + after.others - before.gets - before.others


if __name__ == "__main__":
    main()
