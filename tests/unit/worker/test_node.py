"""A machine of a cluster that is not the driver's ships what its processes write."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner import Job, Train
from runner.errors import Cause
from runner.record import Bundle, shipping
from runner.record.run_spec import RunSpec
from runner.spec import wire
from runner.store import Store
from runner.worker import node
from runner.worker.node import Node
from runner.worker.scope import Scope
from tests import ROOT
from tests.unit.record.spec_kit import SPEC

RUN = "r261123-221649fb-tiny-r9"


def fit(ctx: Any, config: Any) -> None:
    """Never called."""


@pytest.fixture
def payload(store: Store, tmp_path: Path) -> dict[str, Any]:
    """Of a driver on another machine, or in another container of this one."""
    job = Job("tiny", stages=[Train("fit", fn=fit, data={"train": "rows"})])
    Bundle(store, RUN).write_spec(RunSpec.from_json({**SPEC, "job": wire.to_json(job, ROOT)}))
    return {
        "store": store.url, "options": {}, "run_id": RUN, "leg": 0, "attempt": 2, "scratch": str(tmp_path / "scratch"),
        "spec": Bundle(store, RUN).newest_spec(), "code_root": "", "sealed": {}, "beside": str(tmp_path / "none"),
    }  # fmt: skip


def segments(store: Store, kind: str, writer: str) -> bytes:
    bundle = Bundle(store, RUN)
    folder = bundle.stage_files.segments("fit", 2, kind, writer)
    return b"".join(bundle.store.get(f"{folder}/{name}") for name in bundle.store.list(folder))


def test_the_drivers_own_machine_ships_nothing(payload: dict[str, Any]) -> None:
    """Beside the driver, whose shipper sees the same folder, a process uses the driver's scratch. That is not told by
    the machine's name, which containers of one machine may share.
    """
    driver = Scope(Store(payload["store"]), RUN, 0, 2, Path(payload["scratch"]))
    driver.scratch.mkdir()
    told = driver.payload()
    made = Node(told, "fit", "rank0")
    assert made.scope.scratch == driver.scratch
    assert made._shipper is None
    made.close()
    driver.scratch.rename(driver.scratch.with_name("of-another-container"))
    made = Node(told, "fit", "rank0")
    assert made.scope.scratch == driver.scratch / "fit-rank0"
    assert made._shipper is not None
    made.close()


def test_another_machine_ships_its_spool(store: Store, payload: dict[str, Any]) -> None:
    """A real process ships logs and whole lines of metrics, the last ones too, before `close` returns."""
    made = Node(payload, "fit", "rank1")
    assert made.scope.scratch == Path(payload["scratch"]) / "fit-rank1"
    made.scope.spool("fit", "logs", "rank1").write_text("hello\nworld")
    made.scope.spool("fit", "metrics", "rank1").write_text('{"loss": 1}\n{"lo')
    made.close()
    made.close()  # the second time there is nothing to do
    assert segments(store, "logs", "rank1") == b"hello\nworld"
    assert segments(store, "metrics", "rank1") == b'{"loss": 1}\n'


def test_a_slow_store_fails_no_stage(
    payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the last lines take too long, `close` says so and leaves the shipper to itself."""
    shipper = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    monkeypatch.setattr(node, "_ship", lambda *_: shipper)
    monkeypatch.setattr(node, "LAST_LINES_S", 0.01)
    try:
        Node(payload, "fit", "rank1").close()
        assert shipper.poll() is None
        assert "still on their way" in capsys.readouterr().err
    finally:
        shipper.kill()
        shipper.wait()


def test_a_worker_of_ray_is_in_the_projects_folder(payload: dict[str, Any], tmp_path: Path) -> None:
    """A path of the project's means the same to a prep on Ray as on processes, wherever Ray has started the worker."""
    project, told = tmp_path / "project", tmp_path / "told"
    project.mkdir()
    here = {**payload, "beside": str(project), "code_root": str(project)}
    worker = f"""
import os, pickle
from pathlib import Path
from runner.worker.pool.ray import _Actor
made = _Actor({here!r}, "fit", "prep-0")
Path({str(told)!r}).write_bytes(made.run(pickle.dumps(os.path.abspath), pickle.dumps("params.json")))
"""
    subprocess.run([sys.executable, "-c", worker], check=True, cwd=tmp_path)
    assert pickle.loads(told.read_bytes()) == ("result", str(project / "params.json"))


def test_the_shipper_outlives_what_ray_does_to_its_worker(store: Store, payload: dict[str, Any]) -> None:
    """A process that kills all its children and is gone itself, as a worker of Ray's: its last lines arrive."""
    worker = f"""
import os, psutil
from runner.worker.node import Node
made = Node({payload!r}, "fit", "rank1")
made.scope.spool("fit", "logs", "rank1").write_text("last words")
for child in psutil.Process().children(recursive=True):
    child.kill()
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", worker], cwd=ROOT, check=False)
    deadline = time.monotonic() + 60
    while segments(store, "logs", "rank1") != b"last words":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_may_ship_the_same_file(store: Store, tmp_path: Path) -> None:
    """A rank that must know its rows safe and the shipper beside it: every byte is in the bundle once, in order."""
    file = tmp_path / "spool" / "fit" / "2" / "metrics" / "rank0.jsonl"
    file.parent.mkdir(parents=True)
    both = [shipping.SpoolFile(file, Bundle(store, RUN)) for _ in range(2)]
    for row in range(6):
        with open(file, "a") as spool:
            spool.write(f"{row}\n")
        both[row % 3 == 0].ship()
    assert segments(store, "metrics", "rank0") == b"0\n1\n2\n3\n4\n5\n"


def begin_shipping(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shipper whose input ends at once."""
    argument = {"store": store.url, "options": {}, "run_id": RUN, "stage": "fit", "attempt": 2, "writer": "rank0"}
    line = json.dumps({**argument, "spool": str(tmp_path / "spool")}) + "\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line.encode())))
    node.main()


def test_shipping_ends_with_its_input(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipper's program leaves when its standard input ends, however that happened, and has sent everything."""
    file = tmp_path / "spool" / "fit" / "2" / "logs" / "rank0.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * (shipping.SEGMENT_BYTES + 5))
    begin_shipping(store, tmp_path, monkeypatch)
    assert segments(store, "logs", "rank0") == b"x" * (shipping.SEGMENT_BYTES + 5)
    assert len(Bundle(store, RUN).store.list("stages/fit/2/logs/rank0")) == 2


def test_a_kill_by_the_kernel_is_recorded(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel's counter has grown by the end, the bundle says that memory ran out, and for whom."""
    counts = iter([3, 4])
    monkeypatch.setattr(node, "out_of_memory_kills", lambda: next(counts))
    begin_shipping(store, tmp_path, monkeypatch)
    (ending,) = Bundle(store, RUN).stage_files.endings("fit", 2)
    words = ending.words
    assert ending.cause is Cause.OUT_OF_MEMORY
    assert "out of memory" in words
    assert "rank0" in words


def test_shipping_again_repeats_nothing(store: Store, tmp_path: Path) -> None:
    """A shipper that starts anew goes on behind what was sent before."""
    file = tmp_path / "spool" / "fit" / "2" / "logs" / "rank0.log"
    file.parent.mkdir(parents=True)
    for text in ("one\n", "two\n"):
        with open(file, "a") as spool:
            spool.write(text)
        shipping.Shipper(tmp_path / "spool", Bundle(store, RUN)).close()
    assert segments(store, "logs", "rank0") == b"one\ntwo\n"
