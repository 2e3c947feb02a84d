"""One attempt at a leg: its state, and how that follows from what is seen of its RayJob. Nothing is asked here."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.kube import names, pods
from runner.spec import Kubernetes

#: Seconds after which a deadline that KubeRay should keep is kept by us.
DEADLINE_SLACK_S = 20.0
#: Seconds from the moment when all machines are there until a driver has loaded what it needs.
DRIVER_SLACK_S = 60.0
#: Seconds by which the clocks of the API's machine and of a head may differ.
CLOCKS_S = 5.0
#: How KubeRay says that a job ended, where it was not by a decision of its own (a deadline, a refusal).
_BY_ITSELF = ("", "AppFailed", "JobDeploymentStatusTransitionGracePeriodExceeded")
_TERMINAL = ("Complete", "Failed", "ValidationFailed")
_SUSPENDED = ("Suspending", "Suspended")
_RUNNING = "Running"


class State(enum.Enum):
    """Where an attempt is."""

    ANNOUNCED = "its RayJob is asked for, and nothing of it was seen yet"
    QUEUED = "a queue holds it back, and it has not run"
    STARTING = "its machines are coming"
    RUNNING = "all its machines have been there, for its driver"
    LOST = "one of its machines went away, by no hand of ours"
    ENDED = "KubeRay says that it is over, or a deadline has passed"
    DELETED = "its RayJob is gone, or going, by no hand of ours"
    EVICTED = "its queue took the machines away"
    UNSEEN = "it ended while no supervisor was there to see how"
    STOPPED = "its machines were asked to go by us"


_LIVE = (State.ANNOUNCED, State.QUEUED, State.STARTING, State.RUNNING)
#: What may still come to be known of an attempt that is over: how it ended in the end. Other ends stay as they are.
_LATER: Mapping[State, Collection[State]] = {
    State.LOST: (State.LOST, State.ENDED, State.DELETED),
    State.ENDED: (State.ENDED, State.DELETED),
}


@dataclass(frozen=True)
class Seen:
    """A RayJob as the API shows it.

    Args:
        there: it is, and is not about to go.
        deployment: what KubeRay does with it; "" before KubeRay has seen it.
        reason, message: of its end.
        started: when KubeRay took it up, seconds since 1970; None: it has not, or a queue held it back since.
        held: it is to be suspended, or is.
    """

    there: bool = False
    deployment: str = ""
    reason: str = ""
    message: str = ""
    started: float | None = None
    held: bool = False

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Seen:
        """Of an object, or of none."""
        if body is None:
            return cls()
        status = body.get("status") or {}
        began = status.get("startTime")
        return cls(
            there=not body["metadata"].get("deletionTimestamp"),
            deployment=status.get("jobDeploymentStatus") or "",
            reason=status.get("reason") or "",
            message=(status.get("message") or "").strip(),
            started=pods.seconds(began) if began else None,
            held=bool((body.get("spec") or {}).get("suspend")),
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing will come of it any more."""
        return not self.there or self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether KubeRay says so."""
        return self.deployment in _TERMINAL

    @property
    def is_suspended(self) -> bool:
        """Whether its machines are being taken away, or are."""
        return self.deployment in _SUSPENDED

    @property
    def has_machines(self) -> bool:
        """Whether nobody is about to take its machines away."""
        return not (self.is_over or self.held or self.is_suspended)

    @property
    def waits_for_driver(self) -> bool:
        """Whether its machines are there, and KubeRay submits its driver or has done so."""
        return self.deployment == _RUNNING

    @property
    def words(self) -> str:
        """What KubeRay says of its end."""
        return ": ".join(filter(None, (self.deployment, self.reason, self.message[-1500:])))


@dataclass(frozen=True)
class Attempt:
    """An attempt at a leg.

    Args:
        name: of its RayJob.
        grows: Ray's autoscaler brings workers and gives them back.
        state: where it is.
        words: how it ended.
        asked_at: since when its machines are asked to go; seconds since 1970.
        examined: whether its machines were counted after its end, which takes time and is done once.
    """

    name: str
    leg: int
    number: int
    grows: bool = False
    state: State = State.ANNOUNCED
    words: str = ""
    asked_at: float | None = None
    examined: bool = False

    @property
    def is_live(self) -> bool:
        """Whether a driver of it may be at work, or may come."""
        return self.state in _LIVE

    # -- transitions ---------------------------------------------------------------------------------------------

    def taken_over(self, seen: Seen, *, began: bool) -> Attempt:
        """The attempt as a supervisor finds it that was not there before.

        Args:
            began: its driver did, so that all its machines were there once.
        """
        if not began:
            return self
        if not seen.there:  # the supervisor before knew why it let it go, and has not said so
            return replace(self, state=State.UNSEEN, words=self._deleted)
        if seen.has_ended and seen.reason in _BY_ITSELF:
            return replace(self, state=State.UNSEEN, words=seen.words)
        return replace(self, state=State.RUNNING)

    def after(self, seen: Seen, *, late: str = "", lost: Sequence[str] = (), causes: Sequence[str] = ()) -> Attempt:
        """The attempt after a look at its RayJob.

        Args:
            late: which deadline has passed, in words.
            lost: its machines that went away, in words.
            causes: what ended machines against their will, in words.
        """
        state, words = self._judged(seen, late, lost)
        words = ": ".join([words, *causes]) if seen.has_ended else words
        if self.is_live or state in _LATER.get(self.state, ()):
            return replace(self, state=state, words=words)
        return self

    def _judged(self, seen: Seen, late: str, lost: Sequence[str]) -> tuple[State, str]:
        if not seen.there:
            return State.DELETED, self._deleted
        if seen.has_ended:
            return State.ENDED, seen.words
        if seen.is_suspended and self.state is State.RUNNING:
            return State.EVICTED, "its queue took the machines away (suspended)"
        if late:
            return State.ENDED, late
        if lost:  # a gang is doomed without one of its machines, whenever its driver may notice
            return State.LOST, "; ".join(lost)
        if self.state is State.RUNNING or seen.waits_for_driver:
            return State.RUNNING, ""
        if seen.is_suspended or seen.held:
            return State.QUEUED, ""
        return (State.STARTING if seen.deployment else State.ANNOUNCED), ""

    def let_go(self, now: float) -> Attempt:
        """Its machines are asked to go: it is over, however it is judged."""
        return replace(self, asked_at=self.asked_at or now)

    def stopped(self) -> Attempt:
        """It was ended by us, on purpose."""
        return replace(self, state=State.STOPPED, words="stopped")

    @property
    def _deleted(self) -> str:
        return f"RayJob {self.name} was deleted"

    # -- its machines --------------------------------------------------------------------------------------------

    def owns(self, pod: Mapping[str, Any]) -> bool:
        """Whether the pod is one of its machines."""
        return str(pod["metadata"]["name"]).startswith(f"{self.name}-")

    def keeps(self, pod: Mapping[str, Any], seen: Seen) -> bool:
        """Whether the pod is one of its machines that nobody of ours, and not KubeRay, is about to remove."""
        if self.state is State.STOPPED or not self.owns(pod):
            return False
        if self.grows and pod["metadata"]["labels"].get(names.ROLE) == names.WORKER:
            return False  # the autoscaler gives machines back, and the pool begins again what one of them was doing
        if pod["metadata"]["labels"].get(names.ROLE) == names.DATA:
            return False  # KubeRay brings another, and the batch that one of them was at is begun again
        return seen.has_machines

    def missing(self, there: Collection[Mapping[str, Any]], began: float, workers: int) -> Iterator[str]:
        """In words, which machines had come when the driver began, and are not among the pods that there are now."""
        count = {names.HEAD: 0, names.WORKER: 0}
        for pod in there:
            old = pods.seconds(pod["metadata"]["creationTimestamp"]) <= began + CLOCKS_S
            role = pod["metadata"]["labels"][names.ROLE]
            if role in count and self.owns(pod) and old and not pod["metadata"].get("deletionTimestamp"):
                count[role] += 1
        wanted = {names.HEAD: 1, names.WORKER: 0 if self.grows else workers}
        yield from (f"a {role} pod of the attempt is gone" for role in wanted if count[role] < wanted[role])


# -- deadlines -------------------------------------------------------------------------------------------------------


def late(where: Kubernetes, seen: Seen, now: float) -> str:
    """Which deadline has passed unnoticed by KubeRay, which may look away for minutes; a queue does not count."""
    if seen.started is None or seen.is_suspended:
        return ""
    passed = now - seen.started - DEADLINE_SLACK_S
    if seen.deployment == "Initializing" and passed > where.start_deadline_s:
        return f"DeadlineExceeded: its machines were not there within start_deadline_s={where.start_deadline_s:g}"
    if where.deadline_s is not None and passed > where.deadline_s:
        return f"DeadlineExceeded: the attempt took longer than deadline_s={where.deadline_s:g}"
    return ""


def may_be_unheard(where: Kubernetes, seen: Seen, now: float) -> bool:
    """Whether its machines have been there for so long that a driver should have begun.

    KubeRay knows no deadline for a driver that it cannot submit, and asks again for ever.
    """
    limit = where.start_deadline_s + DRIVER_SLACK_S
    return seen.waits_for_driver and seen.started is not None and now - seen.started >= limit


def unheard(where: Kubernetes, opened: float | None, now: float) -> str:
    """Why an attempt ends whose driver may be unheard (see `may_be_unheard`), and has not begun.

    Args:
        opened: when the attempt was; machines that came early wait for theirs.
    """
    if opened is None or now - opened < where.start_deadline_s + DRIVER_SLACK_S:
        return ""
    return (
        f"DeadlineExceeded: its machines were there, but no driver began within start_deadline_s="
        f"{where.start_deadline_s:g}: does the operator reach port 8265 of the head (network policies, a mesh, a "
        "proxy)?"
    )
