"""Trouble that is no fault of a run: a store or an API that fails for a moment, a supervisor that takes over another's
run, a client that is too slow. None of it makes a run fail, begin anew, or stay half-made.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import runner
from runner.backends.base import DriverState
from runner.backends.fake import FakeBackend
from runner.backends.kuberay import machines as kuberay_machines
from runner.backends.kuberay import manifest, objects
from runner.backends.local import liveness
from runner.client import prepare
from runner.control import supervisor
from runner.control.supervisor import Supervisor
from runner.errors import ApiError, InternalError, StoreError
from runner.kube import names
from runner.kube.client import PODS, RAY_CLUSTERS, RAY_JOBS, KubeError
from runner.record import Bundle, RunState, fold
from runner.record.entries import (
    AttemptBegan,
    CancelAsked,
    DriverBegan,
    Ended,
    LegDone,
    Resumed,
    StageDone,
    StageFailed,
    StageResult,
    Submitted,
    SupervisorFailed,
)
from runner.record.failures import Failure
from runner.record.finding import unfinished
from runner.record.history import EVICTED, LOST
from runner.record.index import begun_at
from runner.record.run_spec import RunSpec
from runner.store import Entry, Log, Store
from runner.store.events import Unknown
from runner.store.folder import Folder
from runner.store.retry import Retry
from runner.views import listing
from runner.worker import processes
from tests.unit.backends.fake_kit import FAKE, project
from tests.unit.backends.test_kuberay_manifest import facts
from tests.unit.kube import kit
from tests.unit.record.index_kit import read_index
from tests.unit.record.spec_kit import SPEC

__all__ = ["project"]
SUBMITTED = Submitted("tiny", (("train",),), by="ann")


# -- the store -------------------------------------------------------------------------------------------------------


def test_a_write_whose_answer_was_lost_is_known_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is sent twice and the second is refused: the entry is there once, and its writer does not give way to
    itself. Another's entry of the same content is told apart.
    """
    log, create = Log(store, "log"), Store.create
    with monkeypatch.context() as lossy:
        lossy.setattr(Store, "create", lambda self, key, data: create(self, key, data) and False)
        assert log.append(Unknown("driver", {"host": "a"})).number == 1
    log.append(Unknown("driver", {"host": "a"}))
    assert [entry.number for entry in Log(store, "log").read()] == [1, 2]
    with monkeypatch.context() as at_once:
        at_once.setattr(time, "time", lambda: 1.0)
        assert [Log(store, "log").append(Unknown("x")).number for _ in range(2)] == [3, 4]


@pytest.mark.parametrize("error", [OSError(errno.EREMOTEIO, "InternalError"), TimeoutError("slow")])
def test_whatever_a_store_refuses_is_an_error_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """Who waits for a store to answer again need not know how each file system says that it does not."""

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(Folder, "create", fail)
    with pytest.raises(StoreError, match=type(error).__name__):
        store.create("a", b"x")


# -- a supervisor whose store or API fails for a moment --------------------------------------------------------------


class Flaky(FakeBackend):
    """Each method in `fails` raises so many times before it does its work."""

    fails: dict[str, int]
    error: Exception = ApiError(500, "a moment's trouble")

    def _maybe(self, name: str) -> None:
        self.fails[name] = self.fails.get(name, 0) - 1
        if self.fails[name] >= 0:
            raise self.error

    def start(self, leg: int, attempt: int) -> None:
        self._maybe("start")
        super().start(leg, attempt)

    def clean(self) -> dict[str, Any]:
        self._maybe("clean")
        return super().clean()


@pytest.fixture
def submitted(project: Path, monkeypatch: pytest.MonkeyPatch) -> runner.Run:
    """A run that no supervisor has taken up yet."""
    monkeypatch.setattr(supervisor, "LOOK_S", 0.001)
    monkeypatch.setattr(supervisor, "POLICY", Retry(600.0, longest_s=0.001))
    from runner.client import submit

    return submit.create(prepare.prepare("tiny", cluster=FAKE))


def flaky(run: runner.Run, **fails: int) -> Flaky:
    made = Flaky(run.bundle.root.url, {}, run.id)
    made.fails = fails
    return made


def test_a_start_that_fails_for_a_moment_is_the_same_attempt(submitted: runner.Run) -> None:
    """It is tried again, and the run goes on as if nothing had been."""
    assert Supervisor(submitted.bundle, flaky(submitted, start=3)).run() is RunState.SUCCEEDED
    attempts = [entry.event.attempt for entry in submitted.bundle.log.read() if isinstance(entry.event, AttemptBegan)]
    assert attempts == [1] * len(fold(submitted.bundle.log.read()).legs)


def test_patience_has_an_end_and_a_refusal_none(submitted: runner.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails for too long is raised, and what will not be allowed at once."""
    with monkeypatch.context() as impatient:
        impatient.setattr(supervisor, "POLICY", Retry(0.0))
        with pytest.raises(ApiError, match="trouble"):
            Supervisor(submitted.bundle, flaky(submitted, start=1000)).run()
    refusing = flaky(submitted, start=1)
    refusing.error = ApiError(403, "not for you")
    with pytest.raises(ApiError, match="not for you"):
        Supervisor(submitted.bundle, refusing).run()


def test_an_end_that_was_begun_is_finished(submitted: runner.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver died, and the supervisor dies while it removes the machines: the next one does not begin anew."""
    FakeBackend.outcomes["tiny"] = {"train": None}
    monkeypatch.setattr(supervisor, "POLICY", Retry(0.0))
    with pytest.raises(ApiError):
        Supervisor(submitted.bundle, flaky(submitted, clean=1000)).run()
    assert submitted.view().state is RunState.RUNNING
    begun = len(FakeBackend.started)
    assert Supervisor(submitted.bundle, flaky(submitted)).run() is RunState.FAILED
    assert len(FakeBackend.started) == begun
    assert "signal 9" in submitted.view().error.message
    FakeBackend.outcomes.clear()
    runner.resume(submitted)
    assert submitted.view().state is RunState.SUCCEEDED


def test_of_two_supervisors_the_older_stands_by(submitted: runner.Run) -> None:
    """A node that was given up too early still has its supervisor: it does no more, and leaves when the run ends."""
    older = Supervisor(submitted.bundle, flaky(submitted))
    older._take_up()
    newer = Supervisor(submitted.bundle, flaky(submitted))
    newer._take_up()
    before = submitted.bundle.log.read()
    assert older._step() is None
    assert submitted.bundle.log.read() == before
    while newer._step() is None:
        pass
    assert older._step() is RunState.SUCCEEDED


def test_what_a_driver_wrote_while_a_decision_was_made_counts(submitted: runner.Run) -> None:
    """Its last words come between the look at the log and the decision: the run is not called failed for that."""

    class Late(Flaky):
        def loss(self) -> str:
            view = fold(submitted.bundle.log.read())
            for stage in view.legs[view.leg]:
                submitted.bundle.log.append(StageDone(stage=stage, attempt=1, result=StageResult.from_json({})))
            submitted.bundle.log.append(LegDone(leg=view.leg, attempt=1))
            return ""

        def start(self, leg: int, attempt: int) -> None:
            self._state = DriverState.EXITED

    late = Late(submitted.bundle.root.url, {}, submitted.id)
    late.fails = {}
    assert Supervisor(submitted.bundle, late).run() is RunState.SUCCEEDED
    assert not any(entry.kind == "failing" for entry in submitted.bundle.log.read())


def test_supervisors_that_fail_again_and_again_end_the_run(submitted: runner.Run) -> None:
    """A few may have had bad luck; after MOST_ERRORS with nothing in between the run has failed, and says with what."""
    for number in range(1, supervisor.MOST_ERRORS + 1):
        submitted.bundle.log.append(liveness.identity())
        code = supervisor._failed(submitted.bundle, ApiError(403, "not for you"), None, again=True)
        assert code == (0 if number == supervisor.MOST_ERRORS else 1)
    view = fold(submitted.bundle.log.read())
    assert view.state is RunState.FAILED
    assert view.error is not None
    assert "not for you" in view.error.message


def test_a_supervisor_that_raises_says_so_and_ends_its_run(
    submitted: runner.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody starts another: its traceback is in the log, and the run fails with a bug of runner."""

    def broken(bundle: Bundle) -> None:
        raise KeyError("no such backend")

    monkeypatch.setattr(supervisor, "open_backend", broken)
    root = submitted.bundle.root
    argument = {"store": root.url, "options": root.options, "run_id": submitted.id}
    assert supervisor.main([json.dumps(argument)]) == 1
    with pytest.raises(InternalError, match="its supervisor failed: KeyError: 'no such backend'") as caught:
        submitted.wait(0)
    assert 'raise KeyError("no such backend")' in caught.value.trace
    assert [entry.kind for entry in submitted.bundle.log.read()][-2:] == ["supervisor-error", "ended"]


def test_where_a_supervisor_was_refused_is_in_the_log(submitted: runner.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store or an API said is the run's error, and the place of ours that met it is kept beside it."""

    def refused(bundle: Bundle) -> None:
        raise ApiError(403, "not for you")

    monkeypatch.setattr(supervisor, "open_backend", refused)
    root = submitted.bundle.root
    argument = {"store": root.url, "options": root.options, "run_id": submitted.id}
    assert supervisor.main([json.dumps(argument)]) == 1
    said, ended = (entry.event for entry in submitted.bundle.log.read()[-2:])
    assert isinstance(said, SupervisorFailed)
    assert isinstance(ended, Ended)
    assert ended.error is not None
    assert (said.error_class, ended.error.trace) == ("ApiError", "")
    assert 'raise ApiError(403, "not for you")' in (said.trace or "")


def test_what_a_supervisor_prints_before_it_can_write_a_log_is_shown(
    submitted: runner.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that ends as it starts is seen by whoever started it at once, with its last words."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: no room' >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    submitted._machines.launch()
    submitted._machines._supervisor.wait(10)
    assert submitted.status == "lost"
    error = submitted.reap().error
    assert error is not None
    assert (error.name, error.trace) == ("WorkerLost", "ImportError: no room")
    assert "exit code 3" in error.message
    assert not processes.scratch_path(submitted.id).exists()


def test_a_supervisor_that_ended_before_a_resume_says_nothing_of_the_next(
    submitted: runner.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever launched a run and holds it still does not call it lost when somebody else resumes it."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    submitted._machines.launch()
    submitted._machines._supervisor.wait(10)
    assert submitted.reap().state is RunState.FAILED
    submitted.bundle.log.append(Resumed(by="ann"))
    assert submitted.status == "submitted"
    submitted._machines.launch()
    submitted._machines._supervisor.wait(10)
    assert submitted.status == "lost"
    assert submitted.reap().state is RunState.FAILED


def test_a_run_whose_work_is_done_is_ended_as_done(submitted: runner.Run) -> None:
    """Its supervisor went before it could say so: whoever finds it says that it has succeeded."""
    log = submitted.bundle.log
    legs = fold(log.read()).legs
    for leg in range(len(legs)):
        log.append(AttemptBegan(leg=leg, attempt=1))
        log.append(LegDone(leg=leg, attempt=1))
        assert fold(log.read()).is_complete == (leg == len(legs) - 1)
    cancelled = Entry(len(log.read()) + 1, time.time(), CancelAsked("ann"))
    assert not fold([*log.read(), cancelled]).is_complete
    gone = SimpleNamespace(
        is_lost=lambda view: True, remove=lambda: {"processes": 0}, how_lost=lambda: "killed", last_words=lambda: ""
    )
    submitted.__dict__["_machines"] = gone
    assert submitted.view().state is RunState.LOST
    assert submitted.reap().state is RunState.SUCCEEDED


# -- a client that was too slow --------------------------------------------------------------------------------------


def test_of_a_slow_client_and_an_impatient_supervisor_one_wins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either the run exists, and is not removed, or it is given up, and cannot be submitted any more."""
    exists, gone = Bundle(store, "r260101-000000-tiny-aa"), Bundle(store, "r260101-000000-tiny-bb")
    for bundle in (exists, gone):
        bundle.write_spec(RunSpec.from_json(SPEC))
    exists.submit(SUBMITTED)
    assert not exists.give_up()
    assert exists.spec().raw == SPEC
    assert gone.give_up()
    assert gone.store.list() == ["log"]
    gone.index("tiny", "live")  # the client wakes up
    with pytest.raises(StoreError, match="given up"):
        Bundle(store, gone.run_id).submit(SUBMITTED)
    (line,) = listing.run_lines(store, None)
    assert (line.run, line.state) == (gone.run_id, "unfinished")
    now = begun_at(gone.run_id)
    assert now is not None
    assert unfinished(store, now + 1) == [gone.run_id]
    assert gone.give_up()  # a second supervisor finds it given up already
    assert not read_index(store)


# -- a supervisor that takes over on Kubernetes ----------------------------------------------------------------------

NAME = f"{kit.RUN}-0-1"
DRIVER_AT = kit.AT_S + 60


class Still(kit.FakeKube):
    """Watches tell nothing."""

    def watch(self, *arguments: Any, **named: Any) -> Any:
        raise KubeError(0, "Unreachable", "no watch")


def pod(role: str, number: int = 0, made: str = kit.AT) -> kit.Body:
    body = kit.pod(f"{NAME}-{role}-{number}", role)
    body["metadata"].update(creationTimestamp=made)
    body["metadata"]["labels"][names.ROLE] = role
    return body


def ray_job(**status: Any) -> kit.Body:
    return kit.ray_job(NAME, **status)


MACHINES = [pod(names.HEAD), pod(names.WORKER, 1), pod(names.WORKER, 2)]
NEW = "2026-11-23T22:25:00Z"
RUNS = ray_job(jobDeploymentStatus="Running")
FAILED = {"jobDeploymentStatus": "Failed", "reason": "AppFailed"}


def _leaving(body: kit.Body) -> kit.Body:
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": kit.AT}}


def taken_over(store: Store, monkeypatch: pytest.MonkeyPatch, *bodies: kit.Body, driver: bool = True) -> Any:
    """The backend of a supervisor that finds attempt 1 of a leg of two workers begun."""
    bundle = Bundle(store, kit.RUN)
    stage = {"name": "train", "group": "gpu", "action": "run", "machines": 2, "fewest_machines": 2}
    bundle.write_spec(RunSpec.from_json({**SPEC, "plan": {"stages": [stage]}}))
    monkeypatch.setattr(kuberay_machines, "run_facts", lambda bundle: dataclasses.replace(facts(), run_id=kit.RUN))
    monkeypatch.setattr(time, "time", lambda: DRIVER_AT)
    bundle.submit(dataclasses.replace(SUBMITTED, job="digits"))
    bundle.log.append(AttemptBegan(leg=0, attempt=1))
    if driver:
        bundle.log.append(DriverBegan(leg=0, attempt=1, host="head"))
    backend = kuberay_machines.KubeRayBackend(bundle, Still(*bodies))
    backend.attach(0, 1)
    return backend


@pytest.mark.parametrize(
    ("bodies", "driver", "state", "loss"),
    [
        ([RUNS, *MACHINES], True, DriverState.RUNNING, ""),
        ([RUNS, *MACHINES[:2]], True, DriverState.EXITED, LOST),
        ([RUNS, pod(names.HEAD, made=NEW), *MACHINES[1:]], True, DriverState.EXITED, LOST),
        ([ray_job(jobDeploymentStatus="Initializing"), *MACHINES[:2]], False, DriverState.RUNNING, ""),
        ([ray_job(**FAILED)], True, DriverState.EXITED, LOST),
        ([ray_job(**{**FAILED, "reason": "DeadlineExceeded"})], True, DriverState.EXITED, ""),
        ([ray_job(**FAILED)], False, DriverState.EXITED, ""),
        ([kit.ray_job(NAME, suspend=True, jobDeploymentStatus="Suspended")], True, DriverState.EXITED, EVICTED),
        ([kit.ray_job(NAME, suspend=True, jobDeploymentStatus="Suspended")], False, DriverState.RUNNING, ""),
        ([], True, DriverState.EXITED, LOST),
        ([_leaving(RUNS), *MACHINES], True, DriverState.EXITED, LOST),
    ],
    ids=[
        "whole",
        "a worker less",
        "another head",
        "still coming",
        "ended unseen",
        "deadline",
        "never began",
        "evicted",
        "queued",
        "let go",
        "being let go",
    ],
)
def test_what_happened_without_a_supervisor_is_found_out(
    store: Store, monkeypatch: pytest.MonkeyPatch, bodies: list[kit.Body], driver: bool, state: DriverState, loss: str
) -> None:
    """Machines that were there when the driver began and are not now were lost; what ended while nobody looked is tried
    again; a deadline is not.
    """
    backend = taken_over(store, monkeypatch, *bodies, driver=driver)
    seen, _ = backend.observe()
    assert (seen, backend.loss() if seen is DriverState.EXITED else "") == (state, loss)


def test_an_attempt_that_was_only_announced_is_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor died between the log's entry and its RayJob: the next one makes it, and no attempt is lost."""
    backend = taken_over(store, monkeypatch, kit.job(kit.RUN), driver=False)
    assert ("POST", RAY_JOBS.path("default")) in backend._kube.sent


def test_watches_that_are_behind_hide_no_loss(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver left with its machine, and the watch has not told: the machines are counted before it is judged."""
    backend = taken_over(store, monkeypatch, RUNS, *MACHINES)
    assert backend.observe()[0] is DriverState.RUNNING
    del backend._kube.there[PODS.path("default", MACHINES[0]["metadata"]["name"])]
    assert backend.loss() == LOST


@pytest.mark.parametrize(
    ("late_s", "driver", "state"),
    [
        (1700, False, DriverState.RUNNING),
        (1900, False, DriverState.EXITED),
        (1900, True, DriverState.RUNNING),
    ],
)
def test_a_driver_that_never_begins_is_not_waited_for_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch, late_s: float, driver: bool, state: DriverState
) -> None:
    """The operator cannot reach the head: KubeRay asks again for ever, and start_deadline_s ends it."""
    running = ray_job(jobDeploymentStatus="Running", startTime=kit.AT)
    backend = taken_over(store, monkeypatch, running, *MACHINES, driver=driver)
    monkeypatch.setattr(time, "time", lambda: DRIVER_AT + late_s)
    seen, words = backend.observe()
    assert seen is state
    assert ("8265" in words) == (state is DriverState.EXITED)


def test_gpu_seconds_outlive_the_supervisor_that_counted_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one goes on from what is in the bundle, and closes the accounts of pods that went meanwhile."""
    worker = pod(names.WORKER, 1)
    worker["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "3"}}
    first = taken_over(store, monkeypatch, RUNS, MACHINES[0], worker)
    held = first._ledger.gpu_seconds(DRIVER_AT)
    assert held > 0
    first.observe()
    monkeypatch.setattr(time, "time", lambda: DRIVER_AT + 10)
    second = kuberay_machines.KubeRayBackend(Bundle(store, kit.RUN), Still())
    assert second._ledger.gpu_seconds(DRIVER_AT + 10) == held + 3 * 10
    assert second._ledger.gpu_seconds(DRIVER_AT + 1000) == second._ledger.gpu_seconds(DRIVER_AT + 10)


@pytest.mark.parametrize(("stays", "loss"), [(True, LOST), (False, "")])
def test_a_pod_that_does_not_go_was_on_a_node_that_is_dead(
    store: Store, monkeypatch: pytest.MonkeyPatch, stays: bool, loss: str
) -> None:
    """The driver lost a rank. Where every pod goes when asked to, nodes are well, and it was the rank's own end."""
    backend = taken_over(store, monkeypatch, RUNS, *MACHINES)
    error = Failure("WorkerLost", "a rank of 2 is gone")
    backend._bundle.log.append(StageFailed(stage="train", attempt=1, error=error))
    monkeypatch.setattr(kuberay_machines, "NODE_S", 0.2)
    monkeypatch.setattr(backend, "wait", lambda timeout_s: time.sleep(0.01))
    leaving = pod(names.WORKER, 2)
    leaving["metadata"]["deletionTimestamp"] = kit.AT
    seen = iter([MACHINES] + [[leaving]] * 1000 if stays else [MACHINES, [leaving], []])
    last: list[Any] = []
    monkeypatch.setattr(backend._pods, "objects", lambda: last.append(next(seen)) or last[-1])
    assert backend.loss() == loss
    assert bool(backend.endings()) == stays
    assert backend.loss() == loss  # it does not wait again


def of_run() -> manifest.RunFacts:
    """Of the run whose objects the kit has."""
    return dataclasses.replace(facts(), run_id=kit.RUN)


def test_machines_of_others_stay_when_the_operator_is_away() -> None:
    """A RayCluster that has but the run's label, and names another store, is not deleted."""
    other = kit.ray_cluster("other")
    other["metadata"]["annotations"] = {names.STORE: "s3://another/store"}
    owned = kit.ray_cluster("owned")
    owned["metadata"] |= {"annotations": {}, "ownerReferences": [{"uid": f"uid-{NAME}"}]}
    kube = kit.FakeKube(kit.ray_cluster(), other, owned)
    objects._without_operator(kube, of_run(), [kit.ray_job()])
    gone = [path.rsplit("/", 1)[1] for method, path in kube.sent if method == "DELETE"]
    assert gone == [kit.ray_cluster()["metadata"]["name"], "owned"]


def test_an_operator_that_comes_back_in_between_is_no_error() -> None:
    """A RayJob that is gone when its finalizer was to be taken off needs it no more."""
    kube = kit.FakeKube()
    body = ray_job()
    body["metadata"]["finalizers"] = ["ray.io/rayjob-finalizer"]
    objects._without_operator(kube, of_run(), [body])
    assert {path for _, path in kube.sent} == {RAY_CLUSTERS.path("default"), RAY_JOBS.path("default", NAME)}
    assert not any(method == "PATCH" for method, _ in kube.sent)
