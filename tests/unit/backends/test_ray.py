"""A job for a Ray cluster that is there already: what is refused before any job, and what its backend does of Ray's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from runner import Cluster, Group
from runner.backends.base import DriverState
from runner.backends.ray import check as ray_check
from runner.backends.ray import jobs as ray_jobs
from runner.backends.ray.api import RayApi, RayApiError
from runner.backends.ray.client import RayClient
from runner.backends.ray.machines import RayJobsBackend, remove_drivers
from runner.backends.ray.why import reasons
from runner.backends.registry import client_side
from runner.client import prepare, resume
from runner.client import submit as submitting
from runner.errors import InputError, PlanError, SpecError, StoreError, WorkerAway
from runner.record import Bundle, fold
from runner.record.entries import AttemptBegan, Ended, Resumed, StageFailed, StageStarted, Submitted
from runner.record.failures import failed
from runner.record.history import LOST
from runner.record.run_spec import RunSpec
from runner.store import Store
from tests.unit.cli.kit import write_project
from tests.unit.record.spec_kit import SPEC

RUN = "r261123-221649fb-tiny-r9"
NODE = {"node_id": "n1", "node_ip": "127.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 8.0, "GPU": 2.0}}


class FakeRay(RayApi):
    """Answers from memory."""

    def __init__(self) -> None:
        super().__init__("http://head:8265")
        self.held: dict[str, dict[str, Any]] = {}
        self.machines: list[dict[str, Any]] = [dict(NODE)]
        self.acting: list[dict[str, Any]] = []
        self.groups: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.told = {"rayVersion": version("ray"), "pythonVersion": None}

    def metadata(self) -> dict[str, Any]:
        return self.told

    def nodes(self) -> list[dict[str, Any]]:
        return self.machines

    def actors(self, job_id: str) -> list[dict[str, Any]]:
        return self.acting

    def placement_groups(self, job_id: str) -> list[dict[str, Any]]:
        return self.groups

    def usage(self) -> dict[str, list[float]]:
        return {"CPU": [8.0, 8.0]}

    def submit(
        self, submission_id: str, entrypoint: str, environment: dict[str, str], metadata: dict[str, str]
    ) -> bool:
        if submission_id in self.held:
            return False
        self.held[submission_id] = {"submission_id": submission_id, "status": "RUNNING", "job_id": "01", "message": ""}
        return True

    def job(self, submission_id: str) -> dict[str, Any] | None:
        return self.held.get(submission_id)

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.held.values())

    def stop(self, submission_id: str) -> None:
        self.stopped.append(submission_id)
        self.held[submission_id]["status"] = "STOPPED"

    def delete(self, submission_id: str) -> None:
        del self.held[submission_id]


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> prepare.Prepared:
    """A job of a prep on 'cpu' and a training of two ranks on 'gpu', on a Ray cluster elsewhere."""
    monkeypatch.chdir(write_project(tmp_path / "project"))
    groups = {"cpu": Group(cpu=2), "gpu": Group(cpu=4, gpu=1)}
    cluster = Cluster(backend="ray", address="http://head:8265/", groups=groups)
    return prepare.prepare("tiny", cluster=cluster, store=str(tmp_path / "store"))


@pytest.fixture
def on_s3(prepared: prepare.Prepared) -> Callable[..., None]:
    """Checks the job with a store on S3, or one with options."""

    def check(ray: RayApi, **options: Any) -> None:
        resolved = dataclasses.replace(prepared.resolved, store=Store("s3://lake/runs", options))
        ray_check.check(resolved, prepared.plan, ray)

    return check


@pytest.fixture
def bundle(store: Store, prepared: prepare.Prepared) -> Bundle:
    """A run that was submitted."""
    made = Bundle(store, RUN)
    made.write_spec(
        RunSpec.from_json({**SPEC, "cluster": {"kind": "Cluster", "backend": "ray", "address": "http://head:8265"}})
    )
    made.log.append(Submitted(job="tiny", legs=(("tokens", "train"),)))
    return made


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backend": "local", "address": "http://head:8265"}, "but with backend='ray'"),
        ({"backend": "ray", "address": "head:8265"}, "'http://head:8265'"),
        ({"backend": "ray", "address": "ray://head:10001"}, "'http://head:8265'"),
        ({"backend": "ray", "address": "http://head:x"}, "'http://head:8265'"),
        ({"backend": "ray", "address": "http://ann:hidden@head:8265"}, "RAY_AUTH_TOKEN"),
    ],
)
def test_an_address_is_the_url_of_a_dashboard(fields: dict[str, str], words: str) -> None:
    """Anything else is refused when the cluster is made, and a password in it is not shown."""
    with pytest.raises(SpecError) as raised:
        Cluster(**fields)
    assert words in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_all_stages_are_one_leg_and_have_shapes(prepared: prepare.Prepared) -> None:
    """One driver serves all stages, and machines are counted from the group's shape."""
    assert prepared.plan.legs == (("tokens", "train"),)
    assert [stage.machines for stage in prepared.plan.stages] == [1, 2]
    assert prepared.resolved.cluster.address == "http://head:8265"


def test_a_folder_is_refused_for_a_cluster_elsewhere(prepared: prepare.Prepared) -> None:
    """Its machines could not reach it; for one here it is allowed, unless some machine of it is elsewhere."""
    with pytest.raises(StoreError, match="every machine of the Ray cluster"):
        ray_check.check(prepared.resolved, prepared.plan, FakeRay())
    here = dataclasses.replace(prepared.resolved.cluster, address=f"http://{os.uname().nodename}:8265")
    resolved = dataclasses.replace(prepared.resolved, cluster=here)
    ray_check.check(resolved, prepared.plan, FakeRay())
    ray = FakeRay()
    ray.machines.append({**NODE, "node_id": "n2", "node_ip": "203.0.113.7"})
    with pytest.raises(InputError, match=r"machines elsewhere: 203\.0\.113\.7"):
        ray_check.check(resolved, prepared.plan, ray)


def test_credentials_are_refused(on_s3: Callable[..., None]) -> None:
    """Ray shows the environment of its jobs to all who see its dashboard."""
    with pytest.raises(StoreError, match="storage option 'secret'") as raised:
        on_s3(FakeRay(), secret="hidden")
    assert "hidden" not in str(raised.value)


def test_other_versions_are_refused(on_s3: Callable[..., None]) -> None:
    """Another minor version of Ray or Python is named with both numbers; a Python that is not told is let pass."""
    ray = FakeRay()
    on_s3(ray)
    ray.told = {"rayVersion": "1.2.3", "pythonVersion": None}
    with pytest.raises(InputError, match=rf"runs Ray 1\.2\.3, and this client has Ray {version('ray')}"):
        on_s3(ray)
    ray.told = {"rayVersion": version("ray"), "pythonVersion": "2.7.1"}
    with pytest.raises(InputError, match=r"Python 2\.7\.1"):
        on_s3(ray)


def test_a_client_needs_no_ray(on_s3: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Ray of its own it takes a cluster of any version; its Python is compared all the same."""
    monkeypatch.setattr(ray_check, "version_of", lambda name: None)
    ray = FakeRay()
    ray.told = {"rayVersion": "1.2.3", "pythonVersion": None}
    on_s3(ray)
    ray.told["pythonVersion"] = "2.7.1"
    with pytest.raises(InputError, match=r"Python 2\.7\.1"):
        on_s3(ray)


def test_what_never_fits_is_refused_with_numbers(on_s3: Callable[..., None]) -> None:
    """Two ranks of four cores and a GPU need two such places; dead machines do not count."""
    ray = FakeRay()
    ray.machines = [{**NODE, "resources_total": {"CPU": 4.0, "GPU": 2.0}}, {**NODE, "state": "DEAD"}]
    with pytest.raises(PlanError) as raised:
        on_s3(ray)
    words = "stage 'train' needs 2 x (4 CPU, 1 GPU) at a time, and Ray has room for 1 (127.0.0.1: 4 CPU, 2 GPU)"
    assert words in str(raised.value)


def test_a_supervisor_a_resume(bundle: Bundle) -> None:
    """Each supervisor of a run has an id of its own, so that Ray makes it once; drivers' ids are not like theirs."""
    assert ray_jobs.supervisor_id(bundle) == RUN
    bundle.log.append(Ended(state="failed"))
    bundle.log.append(Resumed(by="ann"))
    assert ray_jobs.supervisor_id(bundle) == f"{RUN}-s2"
    assert ray_jobs.is_driver(RUN, ray_jobs.driver_id(RUN, 0, 1))
    assert not any(ray_jobs.is_driver(RUN, name) for name in (RUN, f"{RUN}-s2", f"{RUN}x-0-1"))


def test_a_client_sees_what_became_of_the_supervisor(bundle: Bundle) -> None:
    """It is lost when its job is over; where the cluster does not answer nothing is known."""
    ray = FakeRay()
    assert isinstance(client_side(bundle), RayClient)
    RayClient(bundle, ray).launch()
    view = fold(bundle.log.read())
    assert not RayClient(bundle, ray).is_lost(view)
    ray.held[RUN].update(status="FAILED", message="killed")
    outside = RayClient(bundle, ray)
    assert outside.is_lost(view)
    assert outside.how_lost() == f"its Ray job {RUN} is FAILED: killed"
    assert not RayClient(bundle, RayApi("http://127.0.0.1:9")).is_lost(view)
    bundle.log.append(Ended(state="failed"))
    bundle.log.append(Resumed(by="ann"))
    assert not outside.is_lost(fold(bundle.log.read()))  # another supervisor is about to come


@pytest.fixture
def backend(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RayJobsBackend, FakeRay]:
    """With its first attempt begun."""
    monkeypatch.setattr("runner.worker.processes.scratch_root", lambda: tmp_path)
    monkeypatch.setattr("runner.backends.ray.machines.MONITOR_S", 0.0)
    monkeypatch.setattr("runner.backends.ray.machines.LOOK_S", 0.0)
    ray = FakeRay()
    made = RayJobsBackend(bundle, ray)
    made.start(0, 1)
    return made, ray


def test_a_machine_that_died_is_a_loss(backend: tuple[RayJobsBackend, FakeRay]) -> None:
    """Only one with actors of the attempt counts; the words say which it was."""
    made, ray = backend
    ray.machines += [{**NODE, "node_id": "n2", "state": "DEAD"}, {**NODE, "node_id": "n3", "state": "DEAD"}]
    assert made.observe() == (DriverState.RUNNING, "")
    assert made.loss() == ""
    ray.acting = [{"node_id": "n3", "state": "DEAD", "is_detached": False, "class_name": "RayTrainWorker"}]
    assert made.loss() == LOST
    assert [each.words for each in made.endings()] == [
        "machine 127.0.0.1 of the Ray cluster died: it does not answer any more"
    ]


def test_ray_is_given_time_to_give_a_machine_up(
    backend: tuple[RayJobsBackend, FakeRay], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank that does not answer is a loss as soon as Ray calls its machine dead, which it does later."""
    made, ray = backend
    made.observe()
    bundle.log.append(AttemptBegan(leg=0, attempt=1))
    bundle.log.append(StageStarted(stage="train", attempt=1))
    error = failed(WorkerAway, "rank 0 of 2 ended without a result: The actor is unavailable")
    bundle.log.append(StageFailed(stage="train", attempt=1, error=error))
    ray.acting = [{"node_id": "n1", "state": "ALIVE", "is_detached": False, "class_name": "RayTrainWorker"}]
    looks = iter(["ALIVE", "ALIVE", "DEAD"])
    monkeypatch.setattr(ray, "nodes", lambda: [{**NODE, "state": next(looks)}])
    assert made.loss() == LOST


def test_a_driver_that_ended_is_seen(backend: tuple[RayJobsBackend, FakeRay], bundle: Bundle) -> None:
    """With Ray's words for it; a deleted job is one that ended, and a later supervisor takes up one that works."""
    made, ray = backend
    ray.held[f"{RUN}-0-1"].update(status="FAILED", message="exit code 137")
    assert made.observe() == (DriverState.EXITED, f"Ray job {RUN}-0-1 FAILED: exit code 137")
    other = RayJobsBackend(bundle, ray)
    other.attach(0, 2)
    assert other.observe()[0] is DriverState.NONE
    made.start(0, 2)
    other.attach(0, 2)
    assert other.observe()[0] is DriverState.RUNNING
    del ray.held[f"{RUN}-0-2"]
    assert other.observe() == (DriverState.EXITED, f"Ray job {RUN}-0-2 was deleted")


def test_only_what_is_the_runs_is_removed(backend: tuple[RayJobsBackend, FakeRay]) -> None:
    """Its drivers' jobs go; its supervisor, other runs and Ray's own detached services stay and are not counted."""
    _, ray = backend
    for name in (RUN, "somebody-else", f"{RUN[:-1]}8-0-1"):
        ray.submit(name, "", {}, {})
    ray.acting = [{"state": "ALIVE", "is_detached": True, "class_name": "_AutoscalingCoordinatorActor"}]
    assert remove_drivers(ray, RUN) == {"jobs": 0, "actors": 0, "placement_groups": 0}
    assert ray.stopped == [f"{RUN}-0-1"]
    assert sorted(ray.held) == sorted([RUN, "somebody-else", f"{RUN[:-1]}8-0-1"])


def test_why_names_what_ray_has_no_room_for(backend: tuple[RayJobsBackend, FakeRay], bundle: Bundle) -> None:
    """Ranks that wait are told by their shape, with what is in use."""
    _, ray = backend
    bundle.log.append(AttemptBegan(leg=0, attempt=1))
    assert reasons(ray, bundle, fold(bundle.log.read())) == []
    ray.groups = [{"state": "PENDING", "bundles": [{"unit_resources": {"CPU": 4.0, "GPU": 1.0}}] * 2}]
    (reason,) = reasons(ray, bundle, fold(bundle.log.read()))
    assert reason.waits_for == "2 x {CPU: 4, GPU: 1} on the Ray cluster (8 of 8 CPU in use)"
    ray.held[f"{RUN}-0-1"].update(status="PENDING", message="setting up")
    (reason,) = reasons(ray, bundle, fold(bundle.log.read()))
    assert reason.waits_for == f"Ray to start job {RUN}-0-1: setting up"


def test_nothing_but_json_of_a_dashboard_is_an_answer() -> None:
    """A refused connection is an error of status 0 that names the address."""
    with pytest.raises(RayApiError, match=r"http://127\.0\.0\.1:9 does not answer") as raised:
        RayApi("http://127.0.0.1:9").metadata()
    assert raised.value.status == 0


def test_a_run_that_could_not_be_started_has_failed_and_can_be_resumed(
    prepared: prepare.Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster's answer is raised and is in the run's error; with the cluster back, and room in it for what is left
    to do, a resume starts a supervisor.
    """
    ray = FakeRay()
    monkeypatch.setattr(RayApi, "outside", lambda address: ray)
    for module in (submitting, resume):
        monkeypatch.setattr(module, "check_machines", lambda prepared: [])
    run = submitting.create(prepared)
    with monkeypatch.context() as away:
        away.setattr(ray, "submit", lambda *_, **__: _fail(RayApiError(0, "the head is away")))
        with pytest.raises(RayApiError, match="the head is away"):
            submitting.launch(run)
    assert run.error is not None
    assert (run.error["class"], run.error["message"]) == (
        "ApiError",
        "no supervisor could be started: the head is away",
    )
    assert run.status == "failed"
    before = run.bundle.log.read()
    with monkeypatch.context() as smaller:
        smaller.setattr(resume, "check_machines", _refused)
        with pytest.raises(PlanError, match="no room for \\['tokens', 'train'\\]"):
            resume.resume(run)
    assert run.bundle.log.read() == before
    resume.resume(run)
    assert list(ray.held) == [f"{run.id}-s2"]


def _refused(prepared: prepare.Prepared) -> None:
    raise PlanError(f"no room for {[stage.name for stage in prepared.plan.stages if stage.action == 'run']}")


def _fail(error: Exception) -> None:
    raise error
