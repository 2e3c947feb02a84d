"""What a client asks of the cluster about supervisors, and how it makes the first machines."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from runner.backends.kuberay import client as kuberay_client
from runner.backends.registry import living, place
from runner.client.run import Run
from runner.errors import InputError
from runner.kube import identity, names
from runner.kube.client import JOBS, RAY_JOBS, SERVICE_ACCOUNTS, KubeError
from runner.record import Bundle, RunState, fold
from runner.record.entries import Ended, Resumed, Submitted
from runner.record.run_spec import RunSpec
from runner.store import Store
from tests.unit.backends.test_kuberay_manifest import facts
from tests.unit.kube import kit
from tests.unit.record import spec_kit

SPEC: dict[str, Any] = {
    **spec_kit.SPEC,
    "cluster": {"backend": "kuberay", "kubernetes": {"context": "arn:x/one", "namespace": "default"}},
    "plan": {"stages": [{"name": "train", "action": "run"}]},
    "legs": [["train"]],
}

RUN = "r260101-000000aa-tiny-aa"
UID = "5a2c9d3e-0000-4000-8000-000000000001"


def account(uid: str = UID) -> kit.Body:
    made = kit.body("ServiceAccount", "v1", "runner")
    made["metadata"]["uid"] = uid
    return made


def marked(store: Store, run: str = RUN, mark: str = UID) -> Bundle:
    """The bundle of a run that was submitted to the cluster with that mark."""
    bundle = Bundle(store, run)
    bundle.write_spec(RunSpec.from_json(SPEC))
    bundle.mark_cluster(mark, "https://10.0.0.1")
    return bundle


def test_a_place_is_asked_for_all_its_supervisors_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose Job has ended or is being deleted do not live; other Jobs of the namespace are nobody's."""
    over = kit.job("r1-over", conditions=[kit.condition("Complete", True)])
    going = kit.job("r1-going")
    going["metadata"]["deletionTimestamp"] = kit.AT
    other = kit.body("Job", "batch/v1", "other", spec={}, status={})
    kube = kit.FakeKube(account(), kit.job("r1-alive"), over, going, other)
    asked = []
    monkeypatch.setattr(kuberay_client, "Kube", lambda *where: asked.append(where) or kube)
    assert living(place(marked(store))) == {"r1-alive"}
    assert asked == [("arn:x/one", "default")]
    assert kube.sent == [("GET", SERVICE_ACCOUNTS.path("default")), ("GET", JOBS.path("default"))]


def test_a_run_is_not_lost_on_a_cluster_where_it_never_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig that leads to another cluster, with the same names in it, says nothing of the run, and from there
    nothing of it is removed.
    """
    elsewhere = kit.FakeKube(account("another"))
    monkeypatch.setattr(kuberay_client, "Kube", lambda *where: elsewhere)
    monkeypatch.setattr(kuberay_client, "run_facts", lambda bundle: facts())
    bundle = marked(store)
    bundle.log.append(Submitted(job="tiny", legs=(("train",),)))
    view = fold(bundle.log.read())
    view.created -= 1000
    outside = kuberay_client.KubeRayClient(bundle)
    assert living(place(bundle)) is None
    assert not outside.is_lost(view)
    assert "10.0.0.1" in outside.why()[0].waits_for
    with pytest.raises(InputError, match=r"the run is on the cluster https://10.0.0.1"):
        outside.remove()
    assert not any(method == "DELETE" for method, _ in elsewhere.sent)

    monkeypatch.setattr(kuberay_client, "Kube", lambda *where: kit.FakeKube(account()))
    assert kuberay_client.KubeRayClient(bundle).is_lost(view)


@pytest.mark.parametrize(
    ("suspended", "since", "lost"), [(False, 1900, True), (False, 1000, False), (True, 1900, False)]
)
def test_a_supervisor_that_cannot_start_is_not_waited_for_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch, suspended: bool, since: float, lost: bool
) -> None:
    """Its image does not exist, say: after start_deadline_s the run is lost, unless the Job still waits in a queue."""
    job = kit.job(RUN)
    job["spec"]["suspend"] = suspended
    monkeypatch.setattr(kuberay_client, "Kube", lambda *where: kit.FakeKube(account(), job))
    monkeypatch.setattr(kuberay_client, "run_facts", lambda bundle: facts())
    bundle = marked(store)
    bundle.log.append(Submitted(job="tiny", legs=(("train",),)))
    view = fold(bundle.log.read())
    view.created -= since
    outside = kuberay_client.KubeRayClient(bundle)
    assert outside.is_lost(view) is lost
    assert ("start_deadline_s" in outside.how_lost()) == lost


def test_a_run_that_was_lost_is_not_lost_any_more_when_it_is_resumed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client saw of the supervisor before says nothing of the one that is about to come."""
    monkeypatch.setattr(kuberay_client, "Kube", lambda *where: kit.FakeKube(account()))
    monkeypatch.setattr(kuberay_client, "run_facts", lambda bundle: facts())
    bundle = marked(store)
    bundle.log.append(Submitted(job="tiny", legs=(("train",),)))
    view = fold(bundle.log.read())
    view.created -= 1000
    outside = kuberay_client.KubeRayClient(bundle)
    assert outside.is_lost(view)
    bundle.log.append(Ended(state="failed"))
    bundle.log.append(Resumed(by="ann"))
    assert not outside.is_lost(fold(bundle.log.read()))


@pytest.mark.parametrize("here", [True, False])
def test_a_run_whose_cluster_is_gone_can_be_written_off(store: Store, here: bool) -> None:
    """It ends as cancelled, in its log alone, and says why; where its cluster answers that is refused."""
    bundle = marked(store)
    bundle.log.append(Submitted(job="tiny", legs=(("train",),)))
    run = Run(store, RUN)
    run.__dict__["_machines"] = SimpleNamespace(is_lost=lambda view: False, is_here=lambda: here)
    if here:
        with pytest.raises(InputError, match="can be asked"):
            run.write_off("ann")
        assert run.view().state is RunState.SUBMITTED
        return
    assert run.write_off("ann").state is RunState.CANCELLED
    assert "10.0.0.1 is gone" in run.error["message"]  # type: ignore[index]
    assert run.write_off("ann").state is RunState.CANCELLED  # the second time there is nothing to do


@pytest.mark.parametrize("readable", [True, False])
def test_a_cluster_is_known_by_what_only_it_has(readable: bool) -> None:
    """A ServiceAccount's uid, or, where that may not be read, the API's address; what cannot be told is a no."""
    denied = {} if readable else {SERVICE_ACCOUNTS.path("default"): KubeError(403, "Forbidden", "no")}
    kube = kit.FakeKube(account(), refused=denied)
    assert identity.mark(kube, "runner") == (UID if readable else kube.host)
    assert identity.leads_to(kube, identity.mark(kube, "runner"))
    assert not identity.leads_to(kube, "https://10.0.0.1")
    assert not identity.leads_to(kube, "")


def test_a_place_that_cannot_be_asked_says_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an API that is away nor a machine without that context makes a run lost."""
    away = kit.FakeKube(refused={"/": KubeError(0, "Unreachable", "no answer")})
    monkeypatch.setattr(kuberay_client, "Kube", lambda *where: away)
    where = place(marked(store))
    assert living(where) is None

    def no_context(*where: object) -> None:
        raise InputError("no Kubernetes to speak to")

    monkeypatch.setattr(kuberay_client, "Kube", no_context)
    assert living(where) is None


@pytest.mark.parametrize("namespace", ["", "..", "a?b", "A", "-a", "a" * 64])
def test_a_place_in_no_namespace_is_not_asked(monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
    """A line of the index may name any place; what is no name of a namespace goes into no request."""
    monkeypatch.setattr(kuberay_client, "Kube", lambda *where: pytest.fail(f"{where} was asked"))
    assert living(f"context/{namespace}/mark") is None


@pytest.mark.parametrize(("status", "refused"), [(404, False), (500, False), (0, False), (403, True)])
def test_a_queue_that_has_not_heard_of_the_job_is_no_refusal(
    store: Store, monkeypatch: pytest.MonkeyPatch, status: int, refused: bool
) -> None:
    """Kueue's webhook looks for the RayJob's owner in a cache that may lag; the supervisor makes the RayJob then, and
    after any other trouble of a moment.
    """
    words = 'admission webhook "mrayjob.kb.io" denied the request: Job.batch "r1" not found'
    kube = kit.FakeKube(refused={RAY_JOBS.path("default"): KubeError(status, "NotFound", words)})
    bundle = Bundle(store, RUN)
    bundle.write_spec(RunSpec.from_json(SPEC))
    monkeypatch.setattr(kuberay_client, "run_facts", lambda bundle: None)
    monkeypatch.setattr(kuberay_client, "leg_body", lambda *arguments: kit.ray_job())
    outside = kuberay_client.KubeRayClient(bundle)
    outside._opened = kube
    if refused:
        with pytest.raises(KubeError):
            outside._start_first(kit.job())
    else:
        outside._start_first(kit.job())
    assert kube.sent == [("POST", RAY_JOBS.path("default"))]


@pytest.mark.parametrize("store_named", ["", "s3://another/store"])
def test_what_a_bundle_names_is_not_removed_unless_it_is_the_runs(
    store: Store, monkeypatch: pytest.MonkeyPatch, store_named: str
) -> None:
    """A hostile bundle that has a Job's name for its run's, or a run's name in another store, has nothing deleted."""
    victim = kit.job(RUN) if store_named else kit.body("Job", "batch/v1", RUN, spec={}, status={})
    victim_too = kit.ray_job(f"{RUN}-0-1")
    kube = kit.FakeKube(account(), victim, victim_too)
    monkeypatch.setattr(kuberay_client, "Kube", lambda *where: kube)
    monkeypatch.setattr(kuberay_client, "run_facts", lambda bundle: facts())
    outside = kuberay_client.KubeRayClient(marked(store))
    outside.remove()
    assert not any(method == "DELETE" for method, _ in kube.sent)
    for each in (victim, victim_too):
        each["metadata"] |= {"labels": {names.RUN: RUN}, "annotations": {names.STORE: store.url}}
    monkeypatch.setattr(
        kuberay_client, "run_facts", lambda bundle: dataclasses.replace(facts(), run_id=RUN, store=store.url)
    )
    outside.remove()
    assert [path.rsplit("/", 1)[1] for method, path in kube.sent if method == "DELETE"] == [f"{RUN}-0-1", RUN]
