"""The repository's own jobs on a real Kubernetes, beside the same on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from runner.client import submit
from runner.client.run import Run
from runner.kube import pods
from runner.kube.client import Kube
from runner.record import RunState
from tests.cluster import kit
from tests.cluster.ends import check_end

pytestmark = pytest.mark.timeout(600)


def losses(run: Run) -> dict[int, float]:
    """Step -> loss, as it was written."""
    return {row["step"]: row["loss"] for row in run.rows("train", "rank0") if "loss" in row}


def gpus_at(kube: Kube, run: Run) -> int:
    """What the run's pods hold now."""
    return sum(map(pods.gpus, kit.machines(kube, run)))


@pytest.mark.parametrize(
    ("job", "changes"),
    [("digits", {}), pytest.param("stdlib_gpt", {"steps": 200, "validate_every": 100}, marks=pytest.mark.soak)],
)
def test_a_job_learns_the_same_on_kubernetes(
    kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, changes: dict[str, Any]
) -> None:
    """Data, bundle and checkpoints on S3, two GPUs held only while it trains; every loss equals that of a local run."""
    monkeypatch.chdir(kit.CHECKOUT)
    run = submit.submit(job, cluster=kit.cluster_file(lead_s=0), **changes)
    seen: dict[str, set[int]] = {}
    while not (view := run.view()).state.ended:
        held = gpus_at(kube, run)
        for stage in view.stages.values():
            if stage.state == "running":
                seen.setdefault(stage.name, set()).add(held)
        run.await_change()
    check_end(kube, run, RunState.SUCCEEDED)
    (prep,) = set(seen) - {"train"}
    assert seen[prep] == {0}
    assert max(seen["train"]) == 2
    local = submit.submit(job, cluster="local", store=str(tmp_path / "store"), **changes)
    assert local.wait() is RunState.SUCCEEDED
    assert losses(run) == losses(local)
    assert run.bundle.root.url == os.environ["RUNNER_STORE"]
    assert run.results()["train"]["metrics"] == local.results()["train"]["metrics"]
