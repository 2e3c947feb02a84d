"""A resolved job on Kubernetes: what is refused before any pod, what would be applied, and an attempt's one driver."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.backends.kuberay import check as kuberay_check
from runner.backends.kuberay import manifest
from runner.client import prepare
from runner.driver import main as driver
from runner.errors import InputError, PlanError, SpecError, StoreAway, StoreError
from runner.kube import names
from runner.kube.preflight import check as preflight
from runner.kube.preflight.needs import Need
from runner.plan.plan import Plan
from runner.record import Bundle
from runner.record.entries import AttemptBegan, DriverBegan, Ended, Resumed, Submitted
from runner.spec.shape import DATA_RESOURCE
from runner.store import Store
from runner.store.events import Event
from tests.unit.cli.kit import call, write_project

RUN = "r261123-221649fb-tiny-r9"
CLUSTER = """
from runner import Cluster, Group, Kubernetes
groups = {"cpu": Group(cpu=2, memory="2GiB"), "gpu": Group(cpu=4, memory="8GiB", gpu=1)}
cluster = Cluster(backend="kuberay", groups=groups, kubernetes=Kubernetes(image="repo/image:1", secrets=("lake",)))
"""


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> prepare.Prepared:
    """A job of a prep on 'cpu' and a training of two ranks on 'gpu'."""
    root = write_project(tmp_path / "project")
    (root / "clusters" / "kube.py").write_text(CLUSTER)
    monkeypatch.chdir(root)
    return prepare.prepare("tiny", cluster="kube", store=str(tmp_path / "store"))


def on(prepared: prepare.Prepared, url: str, options: dict[str, Any] | None = None) -> Any:
    """The resolved job with another store."""
    return dataclasses.replace(prepared.resolved, store=Store(url, options))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Need, ...]]:
    """What the cluster was asked for."""
    needs: list[tuple[Need, ...]] = []
    monkeypatch.setattr(preflight, "check", lambda cluster, wanted, objects: needs.append(wanted.stages))
    return needs


def test_a_store_on_this_machine_is_refused(prepared: prepare.Prepared, asked: list[Any]) -> None:
    """Pods cannot reach a folder of the client, and nothing is asked of the cluster then."""
    with pytest.raises(StoreError, match="RUNNER_STORE"):
        kuberay_check.check(prepared.resolved, prepared.plan)
    assert asked == []


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"key": "AKIA", "secret": "x"}, "key"),
        ({"secret": "x"}, "secret"),
        ({"token": "x"}, "token"),
        ({"client_kwargs": {"aws_secret_access_key": "x"}}, "client_kwargs.aws_secret_access_key"),
        ({"client_kwargs": {"aws_session_token": "x"}}, "client_kwargs.aws_session_token"),
        ({"account_key": "x"}, "account_key"),
    ],
)
def test_credentials_are_refused(
    prepared: prepare.Prepared, asked: list[Any], options: dict[str, Any], name: str
) -> None:
    """Credentials in storage options would be readable in the pods' specs; the error says the option and no value."""
    with pytest.raises(InputError) as raised:
        kuberay_check.check(on(prepared, "s3://lake/runs", options), prepared.plan)
    assert f"'{name}'" in str(raised.value)
    assert "AKIA" not in str(raised.value)
    assert asked == []


def test_a_resume_is_checked_for_what_is_left_to_do(prepared: prepare.Prepared, asked: list[tuple[Need, ...]]) -> None:
    """A plan that was read back is the plan, and legs whose stages are done ask for nothing."""
    read = Plan.from_json(json.loads(json.dumps(prepared.plan.to_json())))
    assert read == prepared.plan
    for done, groups in ((("tokens",), ["gpu"]), ((), ["cpu", "gpu"]), (("tokens", "train"), [])):
        kuberay_check.check(on(prepared, "s3://lake/runs"), read.without(done))
        assert [need.group for need in asked.pop()] == groups


def test_one_run_may_have_another_turn(prepared: prepare.Prepared) -> None:
    """A queue and a priority of one run stand in its plan and in what would be applied, and in no other's."""
    before = prepared.resolved.cluster.kubernetes
    made = prepare.prepare("tiny", cluster="kube", changes={"cluster.queue": "night", "cluster.priority": "low"})
    assert (made.plan.queue, made.plan.priority) == ("night", "low")
    where = made.resolved.cluster.kubernetes
    assert (where, before) == (dataclasses.replace(before, queue="night", priority="low"), before)  # type: ignore[type-var]
    _, *ray_jobs = kuberay_check.objects(on(made, "s3://lake/runs"), made.plan, RUN, "ann")
    for body in ray_jobs:
        labels = body["metadata"]["labels"]
        assert (labels[names.QUEUE], labels[names.QUEUE_PRIORITY]) == ("night", "low")


def test_another_turn_is_refused_where_there_is_none(prepared: prepare.Prepared) -> None:
    """Other backends have no queues; a name that no queue can have, and other fields of a cluster, are refused too."""
    with pytest.raises(SpecError, match=r"cluster\.queue=night\n.*'kuberay'; this one is 'local'"):
        prepare.prepare("tiny", cluster="local", changes={"cluster.queue": "night"})
    with pytest.raises(SpecError, match="Night Shift"):
        prepare.prepare("tiny", cluster="kube", changes={"cluster.queue": "Night Shift"})
    with pytest.raises(SpecError, match=r"cluster\.namespace.*\n.*cluster\.queue"):
        prepare.prepare("tiny", cluster="kube", changes={"cluster.namespace": "other"})


def test_each_stage_is_a_need_of_its_group(prepared: prepare.Prepared, asked: list[Any]) -> None:
    """With a store that pods can reach, the cluster is asked for each stage's machines; other options are allowed."""
    options = {"client_kwargs": {"endpoint_url": "http://10.244.0.1:7070"}}
    kuberay_check.check(on(prepared, "s3://lake/runs", options), prepared.plan)
    ((tokens, train),) = asked
    assert (tokens.stage, tokens.group, tokens.machine.count) == ("stage 'tokens'", "cpu", 1)
    assert (train.stage, train.group, train.machine.count) == ("stage 'train'", "gpu", 2)
    assert [need.machine.requests.get("nvidia.com/gpu") for need in (tokens, train)] == [None, 1.0]


def test_what_a_submit_would_apply(prepared: prepare.Prepared) -> None:
    """One supervisor's Job, and the first attempt at each leg as a RayJob with that leg's machines."""
    job, *ray_jobs = kuberay_check.objects(on(prepared, "s3://lake/runs"), prepared.plan, RUN, "ann")
    assert (job["kind"], job["metadata"]["name"]) == ("Job", RUN)
    assert [body["kind"] for body in ray_jobs] == ["RayJob"] * len(prepared.plan.legs)
    assert [body["metadata"]["name"] for body in ray_jobs] == [f"{RUN}-0-1", f"{RUN}-1-1"]
    workers = [body["spec"]["rayClusterSpec"]["workerGroupSpecs"][0] for body in ray_jobs]
    assert [(group["groupName"], group["replicas"]) for group in workers] == [("cpu", 1), ("gpu", 2)]
    for body in (job, *ray_jobs):
        assert body["metadata"]["labels"][names.RUN] == RUN
        assert body["metadata"]["annotations"] == {names.STORE: "s3://lake/runs", names.BY: "ann"}


def planned(prepared: prepare.Prepared, **actions: str) -> Any:
    """The plan with other actions of its stages."""
    stages = tuple(
        dataclasses.replace(stage, action=actions.get(stage.name, stage.action)) for stage in prepared.plan.stages
    )
    return dataclasses.replace(prepared.plan, stages=stages)


def test_legs_that_are_done_ask_for_nothing(prepared: prepare.Prepared) -> None:
    """A leg whose results are there gets no RayJob and needs no machines; the others keep their numbers."""
    resolved = on(prepared, "s3://lake/runs")
    plan = planned(prepared, tokens="skip")
    made = kuberay_check.objects(resolved, plan, RUN, "ann")
    assert [body["metadata"]["name"] for body in made[1:]] == [f"{RUN}-1-1"]
    assert [need.stage for need in kuberay_check.needs(resolved.cluster, plan, made).stages] == ["stage 'train'"]
    done = planned(prepared, tokens="skip", train="skip")
    made = kuberay_check.objects(resolved, done, RUN, "ann")
    assert [body["kind"] for body in made] == ["Job"]
    assert kuberay_check.needs(resolved.cluster, done, made).stages == ()
    early = planned(prepared, tokens="decide", train="decide")
    assert len(kuberay_check.objects(resolved, early, RUN, "ann")) == 3


def test_a_client_without_ray_names_the_one_that_is_pinned(
    prepared: prepare.Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KubeRay is told the Ray of the client, and where there is none that of the image that the constraints make."""
    for here, told in (("2.59.1", "2.59.1"), (None, manifest.RAY_VERSION)):
        monkeypatch.setattr(kuberay_check, "version_of", lambda name, here=here: here)
        body = kuberay_check.objects(on(prepared, "s3://lake/runs"), prepared.plan, RUN, "ann")[1]
        assert body["spec"]["rayClusterSpec"]["rayVersion"] == told


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [("s3://lake/runs", {"key": "AKIA", "secret": "x"}, "'key'"), ("/some/folder", {}, "RUNNER_STORE")],
)
def test_nothing_is_printed_that_would_be_refused(
    prepared: prepare.Prepared, url: str, options: dict[str, Any], words: str
) -> None:
    """What would be applied is not shown with credentials in it, nor with a store that no pod could reach."""
    with pytest.raises(StoreError) as raised:
        kuberay_check.objects(on(prepared, url, options), prepared.plan, RUN, "ann")
    assert words in str(raised.value)
    assert "AKIA" not in str(raised.value)


def test_a_submit_tries_what_it_makes_itself(prepared: prepare.Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Job and the first RayJob of the run; the supervisor makes the others, with rights of its own."""
    tried: list[Any] = []
    monkeypatch.setattr(preflight, "check", lambda cluster, wanted, objects: tried.extend(objects))
    kuberay_check.check(on(prepared, "s3://lake/runs"), planned(prepared, tokens="skip"))
    assert [body["kind"] for body in tried] == ["Job", "RayJob"]
    assert tried[1]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"] == "gpu"


# -- the store, by hand ----------------------------------------------------------------------------------------------


class Lake(Store):
    """An S3 that is a folder here; `careless` ones write over what is there."""

    def __init__(self, folder: Path, options: dict[str, Any] | None = None, careless: bool = False) -> None:
        super().__init__("s3://lake/runs", options)
        self.inner, self.careless = Store(str(folder)), careless

    def create(self, key: str, data: bytes) -> bool:
        """Of the folder."""
        if self.careless:
            self.inner.put(key, data)
            return True
        return self.inner.create(key, data)

    def get(self, key: str) -> bytes:
        """Of the folder."""
        return self.inner.get(key)

    def delete(self, key: str) -> None:
        """Of the folder."""
        self.inner.delete(key)


def test_a_store_is_tried_and_cleared(tmp_path: Path) -> None:
    """It can be written and read, keeps the first of two writers' objects, and is left as it was."""
    found = list(kuberay_check.look_at_store(Lake(tmp_path)))
    assert [(f.name, f.good) for f in found] == [("store", True), ("store, two writers", True)]
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_writes_over_what_is_there(tmp_path: Path) -> None:
    """It is wrong, for a run's log would have holes; and it is left as it was."""
    _, bad = kuberay_check.look_at_store(Lake(tmp_path, careless=True))
    assert (bad.good, "If-None-Match" in bad.found) == (False, True)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_no_pod_could_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of this machine, credentials in options, a missing bucket, no answer: told as a submit would tell it."""
    (bad,) = kuberay_check.look_at_store(Store(str(tmp_path)))
    assert (bad.good, "a folder of this machine" in bad.found, "RUNNER_STORE" in bad.todo) == (False, True, True)
    (bad,) = kuberay_check.look_at_store(Lake(tmp_path, {"secret": "hidden"}))
    assert (bad.good, "'secret'" in bad.found, "hidden" in bad.found) == (False, True, False)
    for error in (FileNotFoundError("The specified bucket does not exist"), StoreAway("no answer", todo="try again")):

        def create(key: str, data: bytes, error: Exception = error) -> bool:
            raise error

        lake = Lake(tmp_path)
        monkeypatch.setattr(lake, "create", create)
        (bad,) = kuberay_check.look_at_store(lake)
        assert (bad.good, "s3://lake/runs" in bad.found, bool(bad.todo)) == (False, True, True)


# -- one driver an attempt -------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(store: Store) -> Bundle:
    """A run whose first attempt at its first leg has begun."""
    made = Bundle(store, RUN)
    made.log.append(Submitted(job="tiny", legs=(("tokens",), ("train",))))
    made.log.append(AttemptBegan(leg=0, attempt=1))
    return made


def test_a_second_driver_of_an_attempt_leaves(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """When KubeRay submits again after the loss of a head, the new driver says why it leaves, and writes nothing."""
    assert driver._is_first(bundle, 0, 1)
    before = bundle.log.read()
    assert before[-1].event == DriverBegan(0, 1, os.uname().nodename)
    assert not driver._is_first(Bundle(bundle.root, RUN), 0, 1)
    assert "attempt 1 has had its driver" in capsys.readouterr().err
    assert Bundle(bundle.root, RUN).log.read() == before


def test_the_next_attempt_has_a_driver_of_its_own(bundle: Bundle) -> None:
    """A newer attempt, or the next leg, is no second driver; the older one is fenced out."""
    assert driver._is_first(bundle, 0, 1)
    bundle.log.append(AttemptBegan(leg=0, attempt=2))
    assert not driver._is_first(bundle, 0, 1)
    assert driver._is_first(bundle, 0, 2)
    bundle.log.append(AttemptBegan(leg=1, attempt=1))
    assert driver._is_first(bundle, 1, 1)


@pytest.mark.parametrize("event", [Ended("cancelled"), Resumed()])
def test_a_late_driver_leaves_an_ended_run_alone(bundle: Bundle, event: Event) -> None:
    """A driver that starts after the run's end, or before the next attempt of a resumed one, does nothing."""
    bundle.log.append(event)
    assert not driver._is_first(bundle, 0, 1)


def test_of_two_drivers_at_once_one_stays(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another driver's entry lands between the look and the write, the log decides for it."""
    other = Bundle(bundle.root, RUN)
    create = bundle.store.create
    calls: list[str] = []

    def late(key: str, data: bytes) -> bool:
        if not calls:
            calls.append(key)
            assert driver._is_first(other, 0, 1)
        return create(key, data)

    monkeypatch.setattr(bundle.store, "create", late)
    assert not driver._is_first(bundle, 0, 1)
    assert [entry.kind for entry in other.log.read()].count("driver") == 1


def test_a_driver_that_is_fenced_ends_with_an_error(bundle: Bundle) -> None:
    """The process of a second driver ends with code 1 before it touches anything of the run."""
    assert driver._is_first(bundle, 0, 1)
    argument = {"store": bundle.root.url, "options": {}, "run_id": RUN, "leg": 0, "attempt": 1, "scratch": "/nowhere"}
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert driver.main([json.dumps(argument)]) == 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not Path("/nowhere").exists()


# -- doctor ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("good", "code"), [(True, 0), (None, 0), (False, 2)])
def test_doctor_prints_what_was_found(
    prepared: prepare.Prepared, monkeypatch: pytest.MonkeyPatch, good: bool | None, code: int
) -> None:
    """Its exit code tells whether something is wrong, and it says what only the first pod of a run can show."""
    seen: list[Any] = []

    def examine(*what: Any) -> list[preflight.Finding]:
        seen.extend(what)
        return [preflight.Finding("nodes", good, "three", "more")]

    monkeypatch.setattr(kuberay_check, "examine", examine)
    result = call("doctor", "kube", code=code)
    assert [type(each).__name__ for each in seen] == ["Cluster", "Store"]
    assert "three" in result.stdout
    assert "in the first one of a run" in result.stdout
    assert json.loads(call("doctor", "kube", "-o", "json", code=code).stdout)[0]["good"] is good


HEAVY = """
from runner import Dataset, Job, Train

def work(batch, config):
    return batch

def train(ctx, config):
    pass

data = {"train": Dataset(url="numbers.parquet")}
job = Job("heavy", stages=[
    Train("first", fn=train, data=data, workers=3),
    Train("second", fn=train, data=data, workers=3, transform=work, on_data="cpu", data_workers=5),
])
"""


def test_machines_for_a_transform_come_with_their_training_alone(
    prepared: prepare.Prepared, tmp_path: Path, asked: list[tuple[Need, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training whose batches are transformed on another group has machines of it in its own RayJob, which a training
    beside it has not: they are planned, counted and priced, no rank is placed on them, and a group that cannot have so
    many refuses them."""
    pq.write_table(pa.table({"x": list(range(100))}), "numbers.parquet")
    Path("jobs/heavy.py").write_text(HEAVY)
    priced = CLUSTER.replace("gpu=1)", "gpu=1, price_per_hour=10.0)").replace('"2GiB")', '"2GiB", price_per_hour=0.5)')
    Path("clusters/kube.py").write_text(priced)
    found = prepare.prepare("heavy", cluster="kube", store=str(tmp_path / "store"))
    plain, heavy = found.plan.stages
    assert found.plan.legs == (("first",), ("second",))
    assert (plain.data_group, plain.data_machines, plain.price_per_hour) == (None, 0, 30.0)
    assert (heavy.data_group, heavy.data_workers, heavy.data_machines, heavy.price_per_hour) == ("cpu", 5, 3, 31.5)
    assert Plan.from_json(json.loads(json.dumps(found.plan.to_json()))) == found.plan
    shown = call("submit", "heavy", "--cluster", "kube", "--store", str(tmp_path / "store"), "--dry-run", code=2)
    assert "5 data workers, cpu, 3 machines" in " ".join(shown.stdout.split())

    resolved = on(found, "s3://lake/runs")
    _, first, second = kuberay_check.objects(resolved, found.plan, RUN, "ann")
    assert len(first["spec"]["rayClusterSpec"]["workerGroupSpecs"]) == 1
    ranks, data = second["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (ranks["groupName"], ranks["replicas"]) == ("gpu", 3)
    assert (data["groupName"], data["replicas"], data["minReplicas"], data["maxReplicas"]) == ("cpu-data", 3, 3, 3)
    word = data["rayStartParams"].pop("resources")
    assert [json.loads(each) for each in shlex.split(word)] == [{DATA_RESOURCE: 2}]
    assert data["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert data["template"]["metadata"]["labels"][names.ROLE] == names.DATA
    kuberay_check.check(resolved, found.plan)
    need = asked[0][1]
    assert [(name, pods.count, pods.requests["cpu"]) for name, pods in need.beside.items()] == [("cpu", 3, 2.0)]

    Path("clusters/kube.py").write_text(CLUSTER.replace('"2GiB")', '"2GiB", max=2)'))
    with pytest.raises(PlanError, match="5 data_workers need 3 machines of group 'cpu'"):
        prepare.prepare("heavy", cluster="kube", store=str(tmp_path / "store"))
    with pytest.raises(PlanError, match="on_data='cup'"):
        prepare.prepare("heavy", changes={"second.on_data": "cup"}, cluster="kube", store=str(tmp_path / "store"))
    Path("jobs/heavy.py").write_text(HEAVY.replace("transform=work", "transform=lambda batch: batch"))
    with pytest.raises(InputError, match="field 'transform'"):
        prepare.prepare("heavy", cluster="kube", store=str(tmp_path / "store"))
    Path("jobs/heavy.py").write_text(HEAVY.replace("work(batch, config)", "work(batch, config, more)"))
    with pytest.raises(InputError, match=r"\(batch, config\) or \(batch\)"):
        prepare.prepare("heavy", cluster="kube", store=str(tmp_path / "store"))
