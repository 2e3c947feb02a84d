"""What runs have left on a cluster is found and removed, and nothing else."""

from __future__ import annotations

import copy
import os
import time
from typing import Any

from runner.backends.kuberay import objects
from runner.client import submit
from runner.kube import gc, names
from runner.kube.client import RAY_JOBS, Kube
from runner.record import Bundle, RunState
from runner.store import Store
from tests.cluster import kit
from tests.cluster.ends import check_end

NOBODY, ELSEWHERE = "r260101-000000aa-nobody-aa", "r260101-000000aa-elsewh-aa"
GIVEN_UP = "r260101-000000aa-given-aa"


def _like(ray_job: dict[str, Any], run_id: str, store: str) -> dict[str, Any]:
    """The same RayJob of another run."""
    other = copy.deepcopy(ray_job)
    other["metadata"]["name"] = names.ray_job(run_id, 0, 1)
    other["metadata"]["labels"][names.RUN] = run_id
    other["metadata"]["annotations"][names.STORE] = store
    return other


def test_leftovers_of_ended_runs_and_of_nobody_go(kube: Kube) -> None:
    """A RayJob that an ended run has left, and those of runs that are in no store or were given up before they began,
    are found and removed; a run at work, also as seen from another store, and one whose store does not answer stay.
    """
    ended = submit.submit("solo", cluster=kit.cluster_file(), steps=1)
    check_end(kube, ended, RunState.SUCCEEDED)
    body = objects.run_facts(ended.bundle)
    stages = ended.spec()["plan"]["stages"]
    left = objects.leg_body(body, stages, 0, 9, None)
    left["spec"]["suspend"] = True  # an object is enough: no pods
    nobody = _like(left, NOBODY, os.environ["RUNNER_STORE"])
    elsewhere = _like(left, ELSEWHERE, "s3://no-such-bucket-of-anybody/runs")
    given_up = _like(left, GIVEN_UP, os.environ["RUNNER_STORE"])
    assert Bundle(Store(os.environ["RUNNER_STORE"]), GIVEN_UP).give_up()
    for each in (left, nobody, elsewhere, given_up):
        kube.create(RAY_JOBS, each)
    working = submit.submit("solo", cluster=kit.cluster_file(), steps=500, pause_s=0.5)
    kit.await_step(working, 1)
    found = {each.run: each for each in gc.find(kube, gc.by_log({}), time.time() + gc.YOUNG_S)}
    told = [found[run].judgement for run in (ended.id, NOBODY, ELSEWHERE, working.id, GIVEN_UP)]
    assert told == ["ended", "nobody", "unknown", "working", "ended"]
    from_elsewhere = {each.run: each for each in gc.find(kube, lambda *_: "nobody", time.time() + gc.YOUNG_S)}
    assert [from_elsewhere[run].judgement for run in (NOBODY, working.id)] == ["nobody", "unknown"]
    for run in (ended.id, NOBODY, GIVEN_UP):
        assert found[run].removable
        assert gc.remove(kube, found[run]) == []
    gone = [each["metadata"]["name"] for each in (left, nobody, given_up)]
    kit.await_that(lambda: not any(kube.find(RAY_JOBS, name) for name in gone), 60, "both are gone")
    assert kube.find(RAY_JOBS, elsewhere["metadata"]["name"]) is not None
    kube.delete(RAY_JOBS, elsewhere["metadata"]["name"])
    working.cancel()
    check_end(kube, working, RunState.CANCELLED)
