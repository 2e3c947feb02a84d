"""Machines come and go with the phases of a run: with the backlog of a prep stage, and before a training begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.client import submit
from runner.client.run import Run
from runner.kube import names
from runner.kube.client import PODS, Kube
from runner.record import RunState
from tests.cluster import kit
from tests.cluster.ends import check_end

pytestmark = pytest.mark.timeout(420)

#: Twelve tasks, of which the last takes longer than Ray's autoscaler keeps a machine that has nothing to do.
PHASES = """
import time
from runner import Dataset, Job, Prep, Train

def shards():
    import pyarrow as pa
    for shard in range(12):
        yield pa.table({"x": [float(shard)] * 10})

def slowly(rows, config):
    time.sleep(60 if rows["x"][0].as_py() == 11 else 3)
    return rows

def train(ctx, config):
    for batch in ctx.batches("train", batch_size=10, steps=2):
        ctx.step(loss=batch["x"].sum())

job = Job("phases", stages=[
    Prep("slowly", fn=slowly, source=Dataset(make=shards), sink="slow", workers=(1, 2)),
    Train("train", fn=train, data={"train": "slow"}, workers=2),
])
"""


#: A stage on CPUs behind the training.
AFTER = """    Prep("after", fn=slowly, source="slow", sink="after"),
])
"""


def workers(kube: Kube, run: Run, leg: int) -> list[dict[str, Any]]:
    """The pods of a leg's workers that nobody has asked to go."""
    prefix = f"{names.ray_job(run.id, leg, 1)}-"
    return [
        pod
        for pod in kit.machines(kube, run)
        if pod["metadata"]["name"].startswith(prefix)
        and pod["metadata"]["labels"][names.ROLE] == names.WORKER
        and not pod["metadata"].get("deletionTimestamp")
    ]


def test_machines_follow_the_backlog_and_come_early(kube: Kube) -> None:
    """A prep begins on one machine, gets a second while much waits, gives one back while the last task works; those of
    the training are asked for before that ends, and no row is lost or made twice.
    """
    Path("jobs/phases.py").write_text(PHASES)
    run = submit.submit("phases", cluster=kit.cluster_file())
    kit.await_that(lambda: len(workers(kube, run, 0)) == 1, 60, "the first machine")
    kit.await_that(lambda: len(workers(kube, run, 0)) == 2, 120, "the second machine")
    kit.await_that(lambda: len(workers(kube, run, 0)) == 1, 120, "one goes while the last task works")
    assert run.view().stages["slowly"].state == "running"
    assert workers(kube, run, 1), "the training's machines are not asked for"
    check_end(kube, run, RunState.SUCCEEDED)
    kinds = [entry.kind for entry in run.bundle.log.read()]
    assert kinds.index("nearly-done") < kinds.index("prepared") < kinds.index("leg-done")
    done = run.view().stages["slowly"].result
    assert (done.rows_in, done.rows_out, done.tasks) == (120, {"": 120}, 12)
    assert len(kit.attempts(run)) == 2


def test_a_machine_lost_while_it_may_grow_costs_its_task_alone(kube: Kube) -> None:
    """A worker's pod deleted in the middle of a growing prep: what it was doing is begun again, the attempt goes on.
    The training's GPUs are given back when a stage on CPUs follows, not at the run's end.
    """
    text = PHASES.replace("time.sleep(60 if", "time.sleep(5 if")
    Path("jobs/phases.py").write_text(text.removesuffix("])\n") + AFTER)
    run = submit.submit("phases", cluster=kit.cluster_file())
    kit.await_that(lambda: _done(run) >= 2, 150, "two tasks")
    (first, *_) = workers(kube, run, 0)
    kube.delete(PODS, first["metadata"]["name"])
    kit.await_that(lambda: _state(run, "after") == "running", 200, "the stage on CPUs after the training")
    assert not workers(kube, run, 1), "the training's machines are still there"
    check_end(kube, run, RunState.SUCCEEDED)
    assert [(each.leg, each.attempt) for each in kit.attempts(run)] == [(0, 1), (1, 1), (2, 1)]
    assert run.view().stages["slowly"].result.rows_out == {"": 120}


#: A training that waits for its data: a batch takes half a second on one of two workers.
HEAVY = """
import time
from runner import Dataset, Job, Train

def shards():
    import pyarrow as pa
    yield pa.table({"x": [float(row) for row in range(1200)]})

def work(batch, config):
    time.sleep(0.5)
    return {"x": batch["x"] * 2}

def train(ctx, config):
    for batch in ctx.batches("train", batch_size=10):
        ctx.step(loss=batch["x"].sum())

job = Job("heavy", stages=[
    Train("train", fn=train, data={"train": Dataset(make=shards)}, workers=1, transform=work, on_data="cpu",
          data_workers=2),
])
"""


def test_machines_for_a_transform_are_beside_the_training_and_may_go(kube: Kube) -> None:
    """Machines of another group transform the batches of a training; one that is deleted in the middle costs no attempt
    and no batch, and all are gone at the end."""
    Path("jobs/heavy.py").write_text(HEAVY)
    run = submit.submit("heavy", cluster=kit.cluster_file())
    kit.await_that(lambda: (run.view().stages["train"].state == "running") and len(_steps(run)) > 3, 200, "some steps")
    assert len(workers(kube, run, 0)) == 1
    kube.delete(PODS, kit.pod(kube, run, names.DATA)["metadata"]["name"])
    check_end(kube, run, RunState.SUCCEEDED)
    assert [(each.leg, each.attempt) for each in kit.attempts(run)] == [(0, 1)]
    losses = run.metrics()["loss"].to_pylist()
    assert len(losses) == 120
    assert sum(losses) == sum(2.0 * row for row in range(1200))


def _steps(run: Run) -> list[dict[str, Any]]:
    assert not run.view().state.ended, run.error
    return [row for row in run.rows("train", "rank0") if "loss" in row]


def _state(run: Run, stage: str) -> str:
    view = run.view()
    assert not view.state.ended, run.error
    return view.stages[stage].state


def _done(run: Run) -> int:
    assert not run.view().state.ended, run.error
    return max((row.get("done", 0) for row in run.rows("slowly", "driver")), default=0)
