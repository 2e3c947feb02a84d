"""The state of an attempt at a leg, as it follows from what is seen of its RayJob."""

from __future__ import annotations

import pytest

from runner.backends.kuberay.attempt import Attempt, Seen, State, may_be_unheard, unheard
from runner.kube import names
from runner.spec import Kubernetes
from tests.unit.kube import kit

NEW = Attempt(f"{kit.RUN}-0-1", 0, 1)
GONE = Seen()
FRESH = Seen(True)
QUEUED = Seen(True, "Suspended", held=True)
COMING = Seen(True, "Initializing")
RUNS = Seen(True, "Running", started=kit.AT_S)
FAILED = Seen(True, "Failed", "AppFailed", "the driver left")
LATE = Seen(True, "Failed", "DeadlineExceeded")
WHERE = Kubernetes("image")


def after(*seen: Seen, lost: tuple[str, ...] = ()) -> Attempt:
    """A new attempt after these looks; machines are `lost` from the last one on."""
    found = NEW
    for number, look in enumerate(seen, 1):
        found = found.after(look, lost=lost if number == len(seen) else ())
    return found


@pytest.mark.parametrize(
    ("looks", "state"),
    [
        ([], State.ANNOUNCED),
        ([FRESH], State.ANNOUNCED),
        ([QUEUED], State.QUEUED),
        ([QUEUED, COMING], State.STARTING),
        ([COMING, QUEUED], State.QUEUED),
        ([COMING, RUNS], State.RUNNING),
        ([RUNS, COMING], State.RUNNING),
        ([RUNS, QUEUED], State.EVICTED),
        ([RUNS, FAILED], State.ENDED),
        ([LATE], State.ENDED),
        ([COMING, GONE], State.DELETED),
        ([Seen(False, "Running")], State.DELETED),
    ],
)
def test_what_a_rayjob_shows_is_where_an_attempt_is(looks: list[Seen], state: State) -> None:
    """Held back before it ran, an attempt waits; afterwards its queue has taken the machines away."""
    found = after(*looks)
    assert found.state is state
    assert found.is_live == (not found.words)


def test_an_end_is_for_good() -> None:
    """No look brings an attempt back to life; what ended it first counts, and KubeRay's last words are added."""
    assert after(RUNS, FAILED, RUNS).state is State.ENDED
    assert after(RUNS, QUEUED, RUNS, GONE).state is State.EVICTED
    assert after(RUNS, GONE, FAILED).state is State.DELETED
    assert NEW.stopped().after(FAILED).state is State.STOPPED
    doomed = after(RUNS, RUNS, lost=("pod w is gone", "pod x is gone"))
    assert (doomed.state, doomed.words) == (State.LOST, "pod w is gone; pod x is gone")
    told = doomed.after(FAILED, causes=("pod w: Evicted",))
    assert (told.state, told.words) == (State.ENDED, "Failed: AppFailed: the driver left: pod w: Evicted")


def test_a_deadline_comes_before_what_was_lost() -> None:
    """Machines that were lost before all had come in time are no reason to try again."""
    found = NEW.after(COMING, late="DeadlineExceeded: too late", lost=("pod w is gone",))
    assert (found.state, found.words) == (State.ENDED, "DeadlineExceeded: too late")


@pytest.mark.parametrize(
    ("seen", "began", "state"),
    [
        (RUNS, True, State.RUNNING),
        (QUEUED, True, State.RUNNING),
        (FAILED, True, State.UNSEEN),
        (LATE, True, State.RUNNING),
        (GONE, True, State.UNSEEN),
        (RUNS, False, State.ANNOUNCED),
        (FAILED, False, State.ANNOUNCED),
    ],
)
def test_how_a_supervisor_takes_an_attempt_over(seen: Seen, began: bool, state: State) -> None:
    """An attempt whose driver began has had its machines; what ended it by itself, nobody has seen."""
    found = NEW.taken_over(seen, began=began)
    assert found.state is state
    if state is State.UNSEEN:
        assert found.after(RUNS) == found


def test_when_machines_were_asked_to_go_stays() -> None:
    """The first moment counts, whatever becomes of the attempt."""
    assert NEW.let_go(5.0).let_go(9.0).stopped().asked_at == 5.0


def test_which_pods_an_attempt_has_and_keeps() -> None:
    """Its pods have its name; they are kept while nobody takes its machines away, and those that come and go never."""
    head, worker = (kit.pod(f"{NEW.name}-{role}-x", role) for role in (names.HEAD, names.WORKER))
    other = kit.pod(f"{kit.RUN}-0-11-head", names.HEAD)
    assert [NEW.owns(pod) for pod in (head, worker, other)] == [True, True, False]
    assert NEW.keeps(worker, RUNS)
    assert not any(NEW.keeps(worker, seen) for seen in (GONE, QUEUED, FAILED, Seen(True, "Running", held=True)))
    assert not NEW.stopped().keeps(worker, RUNS)
    assert not NEW.keeps(kit.pod(f"{NEW.name}-data-x", names.DATA), RUNS), "the ranks go on without it"
    grows = Attempt(NEW.name, 0, 1, grows=True)
    assert (grows.keeps(head, RUNS), grows.keeps(worker, RUNS)) == (True, False)


def test_machines_that_came_later_are_not_those_that_were_there() -> None:
    """Counted are pods that are older than the driver and are not about to go; of workers that come and go none."""
    head, first, second = (kit.pod(f"{NEW.name}-{n}", role) for n, role in enumerate(("head", "worker", "worker")))
    began = kit.AT_S + 1
    data = kit.pod(f"{NEW.name}-data", names.DATA)
    assert list(NEW.missing([head, first, second, data], began, 2)) == []
    second["metadata"]["creationTimestamp"] = "2026-11-23T22:25:00Z"
    assert list(NEW.missing([head, first, second], began, 2)) == ["a worker pod of the attempt is gone"]
    head["metadata"]["deletionTimestamp"] = kit.AT
    assert len(list(NEW.missing([head, first], began, 2))) == 2
    assert list(Attempt(NEW.name, 0, 1, grows=True).missing([head], began, 2)) == ["a head pod of the attempt is gone"]


def test_a_driver_that_is_not_heard_of() -> None:
    """It is missed when both its machines and its attempt have been there for long enough."""
    long = WHERE.start_deadline_s + 100
    assert not may_be_unheard(WHERE, RUNS, kit.AT_S + 100)
    assert not may_be_unheard(WHERE, COMING, kit.AT_S + long)
    assert may_be_unheard(WHERE, RUNS, kit.AT_S + long)
    assert "8265" in unheard(WHERE, kit.AT_S, kit.AT_S + long)
    assert unheard(WHERE, kit.AT_S + 90, kit.AT_S + long) == ""
    assert unheard(WHERE, None, kit.AT_S + long) == ""
