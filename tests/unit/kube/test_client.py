"""Requests to the API: what is sent again, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.kube.client import JOBS, Kube, KubeError
from tests.unit.store.clock import Clock, fake_clock

NO_WEBHOOK = (
    'Internal error occurred: failed calling webhook "mjob.kb.io": failed to call webhook: Post '
    '"https://kueue-webhook-service.kueue-system.svc:443/mutate-batch-v1-job?timeout=10s": connect: connection refused'
)


class Answer:
    """One of HTTP."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status, self.data = status, json.dumps(body).encode()


@pytest.fixture(autouse=True)
def paused(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return fake_clock(monkeypatch)


class Pool:
    """In place of connections: gives the answers in order, and the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.asked = list(answers), 0

    def request(self, *_: Any, **__: Any) -> Answer:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def kube_of(pool: Pool) -> Kube:
    kube = Kube.__new__(Kube)
    kube.namespace, kube._host, kube._api, kube._headers, kube._pool = "default", "https://10.96.0.1", None, {}, pool
    return kube


def refusal(status: int, message: str) -> Answer:
    return Answer(status, {"kind": "Status", "reason": "", "message": message})


@pytest.mark.parametrize("put_off", [refusal(500, NO_WEBHOOK), refusal(429, "too many requests")])
def test_what_the_api_puts_off_is_sent_again(put_off: Answer) -> None:
    """A webhook that is being replaced, or a busy API, costs a moment and no run."""
    pool = Pool(put_off, put_off, Answer(201, {"kind": "Job"}))
    assert kube_of(pool).create(JOBS, {"metadata": {"name": "one"}}) == {"kind": "Job"}
    assert pool.asked == 3


def test_it_is_not_sent_for_ever(paused: Clock) -> None:
    """After 15 seconds the refusal is the caller's, in the API's own words."""
    pool = Pool(refusal(500, NO_WEBHOOK))
    with pytest.raises(KubeError, match="failed calling webhook"):
        kube_of(pool).get(JOBS, "one")
    assert pool.asked > 1
    assert paused.waited == pytest.approx(15.0)


@pytest.mark.parametrize("answer", [refusal(500, "etcdserver: request timed out"), refusal(403, "quota exceeded")])
def test_other_refusals_are_final(answer: Answer) -> None:
    """What may have been carried out, or never will be, is not sent again."""
    pool = Pool(answer)
    with pytest.raises(KubeError):
        kube_of(pool).create(JOBS, {"metadata": {"name": "one"}})
    assert pool.asked == 1
