"""What a client asks of the cluster about supervisors, and how it makes the first machines."""

from __future__ import annotations

from typing import Any

import pytest

from runner.backends import kuberay_outside
from runner.backends.base import living, place
from runner.bundle import Bundle
from runner.errors import InputError
from runner.kube.client import JOBS, RAY_JOBS, KubeError
from runner.store import Store
from tests.unit import kube_kit as kit

SPEC: dict[str, Any] = {
    "cluster": {"backend": "kuberay", "kubernetes": {"context": "arn:x/one", "namespace": "default"}},
    "plan": {"stages": [{"name": "train", "action": "run"}]},
    "legs": [["train"]],
}


def test_a_place_is_asked_for_all_its_supervisors_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose Job has ended or is being deleted do not live; other Jobs of the namespace are nobody's."""
    over = kit.job("r1-over", conditions=[kit.condition("Complete", True)])
    going = kit.job("r1-going")
    going["metadata"]["deletionTimestamp"] = kit.AT
    other = kit.body("Job", "batch/v1", "other", spec={}, status={})
    kube = kit.FakeKube(kit.job("r1-alive"), over, going, other)
    asked = []
    monkeypatch.setattr(kuberay_outside, "Kube", lambda *where: asked.append(where) or kube)
    assert living(place(SPEC)) == {"r1-alive"}
    assert asked == [("arn:x/one", "default")]
    assert kube.sent == [("GET", JOBS.path("default"))]


def test_a_place_that_cannot_be_asked_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an API that is away nor a machine without that context makes a run lost."""
    away = kit.FakeKube(refused={"/": KubeError(0, "Unreachable", "no answer")})
    monkeypatch.setattr(kuberay_outside, "Kube", lambda *where: away)
    assert living(place(SPEC)) is None

    def no_context(*where: object) -> None:
        raise InputError("no Kubernetes to speak to")

    monkeypatch.setattr(kuberay_outside, "Kube", no_context)
    assert living(place(SPEC)) is None


@pytest.mark.parametrize(("status", "refused"), [(404, False), (500, False), (0, False), (403, True)])
def test_a_queue_that_has_not_heard_of_the_job_is_no_refusal(
    store: Store, monkeypatch: pytest.MonkeyPatch, status: int, refused: bool
) -> None:
    """Kueue's webhook looks for the RayJob's owner in a cache that may lag; the supervisor makes the RayJob then, and
    after any other trouble of a moment.
    """
    words = 'admission webhook "mrayjob.kb.io" denied the request: Job.batch "r1" not found'
    kube = kit.FakeKube(refused={RAY_JOBS.path("default"): KubeError(status, "NotFound", words)})
    bundle = Bundle(store, "r1")
    bundle.write_spec(SPEC)
    monkeypatch.setattr(kuberay_outside, "run_facts", lambda bundle: None)
    monkeypatch.setattr(kuberay_outside, "leg_body", lambda *arguments: kit.ray_job())
    outside = kuberay_outside.KubeRayOutside(bundle)
    outside._opened = kube
    if refused:
        with pytest.raises(KubeError):
            outside._start_first(kit.job())
    else:
        outside._start_first(kit.job())
    assert kube.sent == [("POST", RAY_JOBS.path("default"))]
