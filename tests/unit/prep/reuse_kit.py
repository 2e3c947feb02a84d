"""What the tests of reuse share: a small project on disk, and one run of its prep in a process of its own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.code import references
from runner.code.hashing import identify
from runner.code.references import FunctionRef
from runner.prep import unseen_reads as prep_others
from runner.prep.preload import MODULES
from runner.prep.stage import run_make, run_prep
from runner.record.index import new_run_id
from runner.spec import Dataset, Prep
from runner.worker import forkserver
from runner.worker.pool.base import InlinePool
from tests.unit.prep.kit import make_scope, rows_of

#: What every sample project has besides: ten rows in two shards.
DATA = {f"data/in{i}.jsonl": "".join(json.dumps({"x": i * 5 + j}) + "\n" for j in range(5)) for i in range(2)}


def write(root: Path, files: Mapping[str, str]) -> None:
    """Files of a project."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def run(root: Path, **options: Any) -> dict[str, Any]:
    """Run the prep of `jobs/j.py:fn` as a worker would, in a new process with the project as its code.

    Args:
        options: of `_run`.

    Returns:
        The stage's result, with `table`: the rows of the newest version.
    """
    forkserver.start(MODULES)
    context = forkserver.context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs, str(root), options))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    finally:
        process.join()
    if isinstance(found, BaseException):
        raise found
    return dict(found)


def _main(connection: Any, root: str, options: dict[str, Any]) -> None:
    try:
        connection.send(_run(Path(root), **options))
    except Exception as error:
        connection.send(error)


def _run(
    root: Path,
    *,
    force: bool = False,
    pin: bool = False,
    make: bool = False,
    run_id: str = "",
    blind: bool = False,
    environment: Mapping[str, str] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """`blind`: as on a machine that does not tell which files are opened."""
    os.environ.update(environment or {})
    if blind:
        prep_others.Opened = _refused  # type: ignore[misc]
    store = root.parent / f"{root.name}-store"
    references.set_code_root(root)
    os.chdir(root)  # as a driver does
    ref = FunctionRef("fn", file="jobs/j.py", module="jobs.j")
    source = Dataset(str(root / "data"), format="jsonl")
    stage = Prep(**{"name": "p", "fn": ref, "source": source, "sink": "out", "batch_format": "rows", **fields})
    scope = make_scope(store, stage, run=run_id or new_run_id("test"))
    tempfile.tempdir = str(scope.scratch)
    scope.spec = scope.spec.but(force=["p", "out"] if force else [])
    object.__setattr__(scope.job, "pin_packages", pin)
    if make:
        result = run_make("out", Dataset(make=ref), scope, InlinePool())
    else:
        result = run_prep(stage, scope, InlinePool())
    return {**result, "table": rows_of(store, "out").to_pylist(), "hash": identify([ref], root).hash}


def _refused(root: Path) -> Any:
    raise OSError("not on this machine")


def records(root: Path) -> list[Path]:
    """The files of all records of results in the store of `run`."""
    store = root.parent / f"{root.name}-store"
    return [path for path in store.glob("results/*/*.json") if "sinks" in (text := path.read_text()) and '"at"' in text]
