"""Kubernetes: the supervisor is a batch Job, an attempt at a leg is a RayJob of its own, and the Job owns them all.

KubeRay's word for how an attempt ended is not trusted (see docs/kubernetes.md): the driver's own entries in the log
decide, and the RayJob only tells that there is no driver any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.backends.base import DriverState
from runner.backends.kuberay.attempt import Attempt, Seen, State, late, may_be_unheard, unheard
from runner.backends.kuberay.objects import LONGEST_CLEAN_S, leg_body, machines_of, remove_machines, run_facts
from runner.backends.local.machines import LocalBackend
from runner.errors import Cause, OutOfMemory, WorkerLost
from runner.kube import events, names
from runner.kube.client import JOBS, PODS, RAY_JOBS, Kube, KubeError
from runner.kube.ledger import Ledger
from runner.kube.watch import Watched
from runner.record import Bundle, fold
from runner.record.endings import Ending
from runner.record.entries import AttemptBegan, DriverBegan
from runner.record.failures import is_a
from runner.record.history import EVICTED, LOST
from runner.store.retry import PATIENCE_S, Retry

#: Seconds for which pods that were asked to go may stay before their node is taken for dead.
NODE_S = 45.0
#: Whatever the API says while a run that never was is removed: without its bundle, nobody would know what to do.
ABANDON = Retry(PATIENCE_S, longest_s=2.0, again=lambda error: True)


class KubeRayBackend:
    """The machines of one run, seen from its supervisor.

    Args:
        bundle: of the run.
        kube: the API; made from the cluster's settings (or the pod's service account) if it is not given.
    """

    def __init__(self, bundle: Bundle, kube: Kube | None = None) -> None:
        self._bundle, self._facts = bundle, run_facts(bundle)
        spec = bundle.spec()
        self._stages = spec.plan.planned()
        self._legs = spec.legs
        self._kube = kube or Kube(None, self._facts.kubernetes.namespace)
        self._changed = threading.Event()
        self._ledger = Ledger(self._facts.cluster.gpu_resources, bundle)
        self._attempt: Attempt | None = None  # the current one; whoever watches reads it in another thread
        self._here: LocalBackend | None = None  # the driver of a leg that needs no machines
        mine = names.of_run(self._facts.run_id)
        self._ray_jobs = Watched(self._kube, RAY_JOBS, mine, self._changed.set)
        machines = names.machines_of(self._facts.run_id)
        self._pods = Watched(self._kube, PODS, machines, self._changed.set, self._saw, self._gone)
        self._ledger.load({pod["metadata"]["uid"] for pod in self._pods.objects()})

    # -- the seam ------------------------------------------------------------------------------------------------

    def attach(self, leg: int, attempt: int) -> None:
        """The RayJob of that attempt, which an earlier supervisor made, or was about to.

        What happened while no supervisor was there is judged by what its driver had when it began.
        """
        body = self._kube.find(RAY_JOBS, names.ray_job(self._facts.run_id, leg, attempt))
        began = self._driver_began(leg, attempt)
        if body is None and began is None:
            if fold(self._bundle.log.read()).attempt_open:
                self.start(leg, attempt)
            return
        seen = Seen.of(body)
        found = self._attempt = self._turn(leg, attempt).taken_over(seen, began=began is not None)
        for pod in self._pods.objects():
            self._saw(pod)
        if began is not None and seen.has_machines:
            self._lose_missing(found, began)

    def _turn(self, leg: int, number: int) -> Attempt:
        """Begin to look at another attempt."""
        name = names.ray_job(self._facts.run_id, leg, number)
        self._here = None
        self._ledger.turn(name)
        self._attempt = Attempt(name, leg, number, grows=len(set(machines_of(self._planned(leg)))) > 1)
        return self._attempt

    def _driver_began(self, leg: int, attempt: int) -> float | None:
        """When the attempt's driver did: all machines were there then."""
        for entry in self._bundle.log.read():
            if isinstance(entry.event, DriverBegan) and _is_at(entry.event, leg, attempt):
                return entry.at
        return None

    def _lose_missing(self, attempt: Attempt, began: float) -> None:
        """Take down the machines that were there when the driver began, and are not any more."""
        there = self._kube.select(PODS, names.machines_of(self._facts.run_id))
        for words in attempt.missing(there, began, machines_of(self._planned(attempt.leg))[0]):
            self._ledger.lose(words)

    def start(self, leg: int, attempt: int) -> None:
        """Make the RayJob of the attempt, unless it exists already. The machines of the one before go."""
        if attempt == 1 and all(self._stages[name]["action"] == "skip" for name in self._legs[leg]):
            self._here = LocalBackend(
                self._facts.store,
                dict(self._facts.options),
                self._facts.run_id,
                skip=True,
                sealed=dict(self._facts.sealed),
            )
            self._here.start(leg, attempt)
            return
        if self._attempt is not None:
            events.keep(self._kube, self._bundle)  # of the attempt before: the API forgets them
        current = self._turn(leg, attempt).name
        self._make(leg, attempt)
        for other in self._kube.select(RAY_JOBS, names.of_run(self._facts.run_id)):
            ours = names.is_of(other, self._facts.run_id, self._facts.store)
            if ours and other["metadata"]["name"] != current:  # the one before, or one that came too early
                self._kube.delete(RAY_JOBS, other["metadata"]["name"], uid=other["metadata"]["uid"])

    def prepare(self, leg: int) -> None:
        """Make the RayJob of a later leg; its driver waits until its attempt begins."""
        self._kube.create(RAY_JOBS, self.body(leg, 1, self._kube.get(JOBS, self._facts.run_id)))

    def _make(self, leg: int, attempt: int) -> None:
        """Create the RayJob, unless it is there. One that was made early and has given up meanwhile is replaced."""
        body = self.body(leg, attempt, self._kube.get(JOBS, self._facts.run_id))
        deadline = time.monotonic() + LONGEST_CLEAN_S
        while self._kube.create(RAY_JOBS, body) is None and time.monotonic() < deadline:
            found = self._kube.find(RAY_JOBS, body["metadata"]["name"])
            if found is not None and not names.is_of(found, self._facts.run_id, self._facts.store):
                raise KubeError(409, "AlreadyExists", f"RayJob {body['metadata']['name']} is there, and of another run")
            if found is not None and not Seen.of(found).is_over:
                return
            if found is not None:
                self._kube.delete(RAY_JOBS, body["metadata"]["name"], uid=found["metadata"]["uid"])
            self.wait(0.5)

    def body(self, leg: int, attempt: int, owner: dict[str, Any] | None) -> dict[str, Any]:
        """The RayJob of an attempt."""
        return leg_body(self._facts, self._planned(leg), leg, attempt, owner)

    def _planned(self, leg: int) -> list[Mapping[str, Any]]:
        return [self._stages[name] for name in self._legs[leg]]

    def observe(self) -> tuple[DriverState, str]:
        """The driver's state, and how it ended, in words."""
        self._ledger.keep()
        if self._here is not None:
            return self._here.observe()
        attempt = self._attempt
        if attempt is None:
            return DriverState.NONE, ""
        if attempt.state is not State.STOPPED:
            attempt = self._attempt = self._after_a_look(attempt)
        if attempt.is_live:
            return DriverState.RUNNING, ""
        return DriverState.EXITED, attempt.words

    def _after_a_look(self, attempt: Attempt) -> Attempt:
        seen = Seen.of(self._ray_jobs.get(attempt.name) or self._kube.find(RAY_JOBS, attempt.name))
        where, now = self._facts.kubernetes, time.time()
        words = late(where, seen, now)
        if not words and may_be_unheard(where, seen, now) and self._driver_began(attempt.leg, attempt.number) is None:
            words = unheard(where, self._opened(attempt), now)
        return attempt.after(seen, late=words, lost=self._ledger.lost, causes=self._ledger.causes)

    def _opened(self, attempt: Attempt) -> float | None:
        """When the log has it that the attempt is to be made."""
        moments = [
            entry.at
            for entry in self._bundle.log.read()
            if isinstance(entry.event, AttemptBegan) and _is_at(entry.event, attempt.leg, attempt.number)
        ]
        return max(moments, default=None)

    def loss(self) -> str:
        """LOST or EVICTED; never for want of memory, which would run out again."""
        if self._here is not None and self._here.observe()[0] is DriverState.EXITED:
            return LOST  # a result that was to be skipped is gone: the next attempt gets machines
        attempt = self._attempt
        if attempt is None:
            return ""
        if attempt.state is State.EVICTED:
            return EVICTED
        if not attempt.examined and attempt.state is not State.STOPPED:
            self._attempt = replace(attempt, examined=True)
            self._look_again(attempt)
            self._look_for_a_dead_node(attempt)
        gone = bool(self._ledger.lost) or attempt.state is State.UNSEEN
        return LOST if gone and not self._ran_out(attempt) else ""

    def _ran_out(self, attempt: Attempt) -> bool:
        """Whether memory did, as the pods tell, the driver, or the processes beside those that the kernel killed."""
        error = fold(self._bundle.log.read()).error
        if is_a(error, OutOfMemory):
            return True
        stages = self._legs[attempt.leg]
        told = [ending.cause for stage in stages for ending in self._bundle.stage_files.endings(stage, attempt.number)]
        return self._ledger.out_of_memory or Cause.OUT_OF_MEMORY in told

    def _look_again(self, attempt: Attempt) -> None:
        """The watches may be behind: ask once whether the machines of an attempt that nobody ended are all there."""
        began = self._driver_began(attempt.leg, attempt.number)
        if began is None or self._ledger.lost:
            return
        there = self._kube.select(PODS, names.machines_of(self._facts.run_id))
        seen = Seen.of(self._kube.find(RAY_JOBS, attempt.name))  # after the pods: with its end they go
        if seen.has_machines:
            for words in attempt.missing(there, began, machines_of(self._planned(attempt.leg))[0]):
                self._ledger.lose(words)

    def _look_for_a_dead_node(self, attempt: Attempt) -> None:
        """A driver sees the loss of a rank long before Kubernetes gives up its node (300 s). But a pod that was asked
        to go, as all are when the driver has left, and does not, has no kubelet any more that could end it.
        """
        error = fold(self._bundle.log.read()).error
        if not is_a(error, WorkerLost):
            return
        self._let_go()  # whatever comes of it, this attempt is over
        deadline = time.monotonic() + NODE_S
        while left := [pod for pod in self._pods.objects() if attempt.owns(pod)]:
            if self._ledger.lost or self._ledger.out_of_memory or fold(self._bundle.log.read()).cancel is not None:
                return
            if time.monotonic() > deadline:
                for pod in left:
                    if pod["metadata"].get("deletionTimestamp"):
                        self._ledger.lose(f"the node of pod {pod['metadata']['name']} does not answer")
                return
            self.wait(0.5)

    def wait(self, timeout_s: float) -> None:
        """Return when the driver ends or `wake` is called; RayJobs and pods are watched."""
        self._changed.wait(timeout_s)
        self._changed.clear()

    def wake(self) -> None:
        """Make a `wait` return."""
        self._changed.set()

    def stop(self, grace_s: float) -> None:
        """The driver reads the log and ends by itself; after `grace_s` seconds its RayJob is deleted."""
        if self._here is not None:
            self._here.stop(grace_s)
            return
        deadline = time.monotonic() + grace_s
        while self.observe()[0] is DriverState.RUNNING and (left := deadline - time.monotonic()) > 0:
            self.wait(left)
        self._let_go()
        self._stopped()

    def _stopped(self) -> None:
        if self._attempt is not None:
            self._attempt = self._attempt.stopped()

    def _let_go(self) -> None:
        if self._attempt is not None:
            name = self._attempt.name
            found = self._kube.find(RAY_JOBS, name)
            if found is not None and names.is_of(found, self._facts.run_id, self._facts.store):
                self._kube.delete(RAY_JOBS, name, uid=found["metadata"]["uid"])
            self._attempt = self._attempt.let_go(time.time())

    def clean(self) -> dict[str, Any]:
        """Leave no RayJob and no machine of the run; where the operator is away, by our own hand."""
        self._stopped()
        events.keep(self._kube, self._bundle)
        asked_at = None if self._attempt is None else self._attempt.asked_at
        asked = {} if asked_at is None else {"asked_at": asked_at}
        return {**remove_machines(self._kube, self._facts, self._changed, self._ledger), **asked}

    # -- what is seen --------------------------------------------------------------------------------------------

    def _saw(self, pod: dict[str, Any]) -> None:
        self._ledger.saw(pod, self._is_wanted(pod))

    def _gone(self, pod: dict[str, Any]) -> None:
        self._ledger.gone(pod, self._is_wanted(pod))

    def _is_wanted(self, pod: dict[str, Any]) -> bool:
        """Whether nobody of ours, and not KubeRay, is about to remove it."""
        attempt = self._attempt
        return attempt is not None and attempt.keeps(pod, Seen.of(self._ray_jobs.get(attempt.name)))

    def endings(self) -> list[Ending]:
        """What ended pods of the current attempt against their will."""
        return self._ledger.endings


def _is_at(event: AttemptBegan | DriverBegan, leg: int, attempt: int) -> bool:
    return (event.leg, event.attempt) == (leg, attempt)


def abandon(bundle: Bundle) -> bool:
    """From within the supervisor's pod: the bundle first, then the Job, which owns this very process and all else."""
    facts = run_facts(bundle)
    kube = Kube(None, facts.kubernetes.namespace)
    if not bundle.give_up():
        return False
    ABANDON(lambda: kube.delete(JOBS, facts.run_id))
    return True
