"""Kubernetes: the supervisor is a batch Job, an attempt at a leg is a RayJob of its own, and the Job owns them all.

KubeRay's word for how an attempt ended is not trusted (see docs/kubernetes.md): the driver's own entries in the log
decide, and the RayJob only tells that there is no driver any more.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from runner.backends.base import DriverState
from runner.backends.kuberay.objects import LONGEST_CLEAN_S, leg_body, machines_of, remove_machines, run_facts
from runner.backends.local.machines import LocalBackend
from runner.errors import OutOfMemory, WorkerLost
from runner.kube import events, names, pods
from runner.kube.client import JOBS, PODS, RAY_JOBS, Kube, KubeError
from runner.kube.ledger import Ledger
from runner.kube.watch import Watched
from runner.record.bundle import Bundle
from runner.record.failures import is_a
from runner.record.history import EVICTED, LOST, fold
from runner.spec.cluster import Kubernetes
from runner.store.retry import PATIENCE_S, Retry

#: Seconds after which a deadline that KubeRay should keep is kept by us.
DEADLINE_SLACK_S = 20.0
#: Seconds from the moment when all machines are there until a driver has loaded what it needs.
DRIVER_SLACK_S = 60.0
#: Seconds by which the clocks of the API's machine and of a head may differ.
CLOCKS_S = 5.0
#: Seconds for which pods that were asked to go may stay before their node is taken for dead.
NODE_S = 45.0
#: Whatever the API says while a run that never was is removed: without its bundle, nobody would know what to do.
ABANDON = Retry(PATIENCE_S, longest_s=2.0, again=lambda error: True)
#: How KubeRay says that a job ended, where it was not by a decision of its own (a deadline, a refusal).
_BY_ITSELF = ("", "AppFailed", "JobDeploymentStatusTransitionGracePeriodExceeded")
_TERMINAL = ("Complete", "Failed", "ValidationFailed")
_SUSPENDED = ("Suspending", "Suspended")


class KubeRayBackend:
    """The machines of one run, seen from its supervisor.

    Args:
        bundle: of the run.
        kube: the API; made from the cluster's settings (or the pod's service account) if it is not given.
    """

    def __init__(self, bundle: Bundle, kube: Kube | None = None) -> None:
        self._bundle, self._facts = bundle, run_facts(bundle)
        spec = bundle.spec()
        self._stages = {stage["name"]: stage for stage in spec["plan"]["stages"]}
        self._legs: list[list[str]] = spec["legs"]
        self._kube = kube or Kube(None, self._facts.kubernetes.namespace)
        self._changed = threading.Event()
        self._ledger = Ledger(self._facts.cluster.gpu_resources, bundle)
        self._current: str | None = None
        self._at = (0, 0)  # leg and attempt
        self._asked_at: float | None = None
        self._here: LocalBackend | None = None  # the driver of a leg that needs no machines
        self._ran = self._stopped = self._evicted = self._grows = self._unseen = self._searched = False
        mine = names.of_run(self._facts.run_id)
        self._ray_jobs = Watched(self._kube, RAY_JOBS, mine, self._changed.set)
        machines = names.machines_of(self._facts.run_id)
        self._pods = Watched(self._kube, PODS, machines, self._changed.set, self._saw, self._gone)
        self._ledger.load({pod["metadata"]["uid"] for pod in self._pods.objects()})

    # -- the seam ------------------------------------------------------------------------------------------------

    def attach(self, leg: int, attempt: int) -> None:
        """See `Backend`: the RayJob of that attempt, which an earlier supervisor made, or was about to.

        What happened while no supervisor was there is judged by what its driver had when it began.
        """
        ray_job = self._kube.find(RAY_JOBS, names.ray_job(self._facts.run_id, leg, attempt))
        began = self._driver_began(leg, attempt)
        if ray_job is None and began is None:
            if fold(self._bundle.log.read()).attempt_open:
                self.start(leg, attempt)
            return
        self._turn(leg, attempt)
        for pod in self._pods.objects():
            self._saw(pod)
        if began is None:
            return
        if ray_job is None or ray_job["metadata"].get("deletionTimestamp"):
            self._unseen = True  # the supervisor before knew why it let it go, and has not said so
            return
        status = ray_job.get("status") or {}
        state = status.get("jobDeploymentStatus") or ""
        self._ran = True
        if state in _TERMINAL:
            self._unseen = (status.get("reason") or "") in _BY_ITSELF
        elif state not in _SUSPENDED and not ray_job["spec"].get("suspend"):
            for words in self._missing(began, machines_of(self._planned(leg))[0]):
                self._ledger.lose(words)

    def _turn(self, leg: int, attempt: int) -> None:
        self._here = None
        self._at, self._asked_at = (leg, attempt), None
        self._current = names.ray_job(self._facts.run_id, leg, attempt)
        self._ledger.turn(self._current)
        self._ran = self._stopped = self._evicted = self._unseen = self._searched = False
        self._grows = len(set(machines_of(self._planned(leg)))) > 1

    def _driver_began(self, leg: int, attempt: int) -> float | None:
        """When the attempt's driver did: all machines were there then."""
        for entry in self._bundle.log.read():
            if entry.kind == "driver" and _is_at(entry.data, leg, attempt):
                return entry.at
        return None

    def _missing(self, began: float, workers: int) -> list[str]:
        """Machines that were there when the driver began, and are not any more."""
        there = {names.HEAD: 0, names.WORKER: 0}
        for pod in self._kube.select(PODS, names.machines_of(self._facts.run_id)):
            old = pods.seconds(pod["metadata"]["creationTimestamp"]) <= began + CLOCKS_S
            if self._is_current(pod) and old and not pod["metadata"].get("deletionTimestamp"):
                there[pod["metadata"]["labels"][names.ROLE]] += 1
        wanted = {names.HEAD: 1, names.WORKER: 0 if self._grows else workers}
        return [f"a {role} pod of the attempt is gone" for role in wanted if there[role] < wanted[role]]

    def _is_current(self, pod: dict[str, Any]) -> bool:
        return self._current is not None and pod["metadata"]["name"].startswith(f"{self._current}-")

    def start(self, leg: int, attempt: int) -> None:
        """See `Backend`; a RayJob of that name that exists already is the one. The machines of the one before go."""
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
        if self._current is not None:
            events.keep(self._kube, self._bundle)  # of the attempt before: the API forgets them
        self._turn(leg, attempt)
        self._make(leg, attempt)
        for other in self._kube.select(RAY_JOBS, names.of_run(self._facts.run_id)):
            ours = names.is_of(other, self._facts.run_id, self._facts.store)
            if ours and other["metadata"]["name"] != self._current:  # the one before, or one that came too early
                self._kube.delete(RAY_JOBS, other["metadata"]["name"], uid=other["metadata"]["uid"])

    def prepare(self, leg: int) -> None:
        """See `Backend`: its driver waits until its attempt begins."""
        self._kube.create(RAY_JOBS, self.body(leg, 1, self._kube.get(JOBS, self._facts.run_id)))

    def _make(self, leg: int, attempt: int) -> None:
        """Create the RayJob, unless it is there. One that was made early and has given up meanwhile is replaced."""
        body = self.body(leg, attempt, self._kube.get(JOBS, self._facts.run_id))
        deadline = time.monotonic() + LONGEST_CLEAN_S
        while self._kube.create(RAY_JOBS, body) is None and time.monotonic() < deadline:
            found = self._kube.find(RAY_JOBS, body["metadata"]["name"])
            if found is not None and not names.is_of(found, self._facts.run_id, self._facts.store):
                raise KubeError(409, "AlreadyExists", f"RayJob {body['metadata']['name']} is there, and of another run")
            if found is not None and not _is_over(found):
                return
            if found is not None:
                self._kube.delete(RAY_JOBS, body["metadata"]["name"], uid=found["metadata"]["uid"])
            self.wait(0.5)

    def body(self, leg: int, attempt: int, owner: dict[str, Any] | None) -> dict[str, Any]:
        """The RayJob of an attempt."""
        return leg_body(self._facts, self._planned(leg), leg, attempt, owner)

    def _planned(self, leg: int) -> list[dict[str, Any]]:
        return [self._stages[name] for name in self._legs[leg]]

    def observe(self) -> tuple[DriverState, str]:
        """See `Backend`."""
        self._ledger.keep()
        if self._here is not None:
            return self._here.observe()
        if self._current is None:
            return DriverState.NONE, ""
        if self._stopped:
            return DriverState.EXITED, "stopped"
        found = self._ray_jobs.get(self._current) or self._kube.find(RAY_JOBS, self._current)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return DriverState.EXITED, f"RayJob {self._current} was deleted"
        status = found.get("status") or {}
        state = status.get("jobDeploymentStatus") or ""
        self._ran = self._ran or state == "Running"
        if state in _TERMINAL:
            return DriverState.EXITED, self._words(status)
        if state in _SUSPENDED and self._ran:
            self._evicted = True
            return DriverState.EXITED, "its queue took the machines away (suspended)"
        late = _late(self._facts.kubernetes, status, time.time()) or self._unheard(status)
        if late:
            return DriverState.EXITED, late
        if self._ledger.lost:  # a gang is doomed without one of its machines, whenever its driver may notice
            return DriverState.EXITED, "; ".join(self._ledger.lost)
        return DriverState.RUNNING, ""

    def loss(self) -> str:
        """See `Backend`. Memory that ran out would run out again."""
        if self._here is not None and self._here.observe()[0] is DriverState.EXITED:
            return LOST  # a result that was to be skipped is gone: the next attempt gets machines
        if self._evicted:
            return EVICTED
        if not self._searched and not self._stopped:
            self._searched = True
            self._look_again()
            self._look_for_a_dead_node()
        return LOST if (self._ledger.lost or self._unseen) and not self._ran_out() else ""

    def _ran_out(self) -> bool:
        """Whether memory did, as the pods tell, the driver, or the processes beside those that the kernel killed."""
        error = fold(self._bundle.log.read()).error
        if is_a(error, OutOfMemory):
            return True
        leg, attempt = self._at
        told = [words for stage in self._legs[leg] for words in self._bundle.causes(stage, attempt)]
        return self._ledger.out_of_memory or any("out of memory" in words for words in told)

    def _unheard(self, status: dict[str, Any]) -> str:
        """KubeRay knows no deadline for a driver that it cannot submit, and asks again for ever."""
        began, limit = status.get("startTime"), self._facts.kubernetes.start_deadline_s
        if status.get("jobDeploymentStatus") != "Running" or not began:
            return ""
        if time.time() - pods.seconds(began) < limit + DRIVER_SLACK_S:
            return ""
        leg, attempt = self._at
        opened = [e.at for e in self._bundle.log.read() if e.kind == "attempt" and _is_at(e.data, leg, attempt)]
        if not opened or time.time() - opened[-1] < limit + DRIVER_SLACK_S or self._driver_began(leg, attempt):
            return ""  # machines that came early wait for their attempt
        return (
            f"DeadlineExceeded: its machines were there, but no driver began within start_deadline_s={limit:g}: does "
            "the operator reach port 8265 of the head (network policies, a mesh, a proxy)?"
        )

    def _look_again(self) -> None:
        """The watches may be behind: ask once whether the machines of an attempt that nobody ended are all there."""
        began = self._driver_began(*self._at)
        if began is None or self._current is None or self._ledger.lost:
            return
        missing = self._missing(began, machines_of(self._planned(self._at[0]))[0])
        ray_job = self._kube.find(RAY_JOBS, self._current)  # after the pods: with its end they go
        if ray_job is None or _is_over(ray_job) or ray_job["spec"].get("suspend"):
            return
        for words in missing:
            self._ledger.lose(words)

    def _look_for_a_dead_node(self) -> None:
        """A driver sees the loss of a rank long before Kubernetes gives up its node (300 s). But a pod that was asked
        to go, as all are when the driver has left, and does not, has no kubelet any more that could end it.
        """
        error = fold(self._bundle.log.read()).error
        if not is_a(error, WorkerLost):
            return
        self._let_go()  # whatever comes of it, this attempt is over
        deadline = time.monotonic() + NODE_S
        while left := [pod for pod in self._pods.objects() if self._is_current(pod)]:
            if self._ledger.lost or self._ledger.out_of_memory or fold(self._bundle.log.read()).cancel is not None:
                return
            if time.monotonic() > deadline:
                for pod in left:
                    if pod["metadata"].get("deletionTimestamp"):
                        self._ledger.lose(f"the node of pod {pod['metadata']['name']} does not answer")
                return
            self.wait(0.5)

    def wait(self, timeout_s: float) -> None:
        """See `Backend`; RayJobs and pods are watched."""
        self._changed.wait(timeout_s)
        self._changed.clear()

    def wake(self) -> None:
        """See `Backend`."""
        self._changed.set()

    def stop(self, grace_s: float) -> None:
        """See `Backend`: the driver reads the log and ends by itself; after `grace_s` its RayJob is deleted."""
        if self._here is not None:
            self._here.stop(grace_s)
            return
        deadline = time.monotonic() + grace_s
        while self.observe()[0] is DriverState.RUNNING and (left := deadline - time.monotonic()) > 0:
            self.wait(left)
        self._let_go()
        self._stopped = True

    def _let_go(self) -> None:
        if self._current is not None:
            found = self._kube.find(RAY_JOBS, self._current)
            if found is not None and names.is_of(found, self._facts.run_id, self._facts.store):
                self._kube.delete(RAY_JOBS, self._current, uid=found["metadata"]["uid"])
            self._asked_at = self._asked_at or time.time()

    def clean(self) -> dict[str, Any]:
        """See `Backend`: no RayJob and no machine of the run is left; where the operator is away, by our own hand."""
        self._stopped = True
        events.keep(self._kube, self._bundle)
        asked = {} if self._asked_at is None else {"asked_at": self._asked_at}
        return {**remove_machines(self._kube, self._facts, self._changed, self._ledger), **asked}

    # -- what is seen --------------------------------------------------------------------------------------------

    def _saw(self, pod: dict[str, Any]) -> None:
        self._ledger.saw(pod, self._is_wanted(pod))

    def _gone(self, pod: dict[str, Any]) -> None:
        self._ledger.gone(pod, self._is_wanted(pod))

    def _is_wanted(self, pod: dict[str, Any]) -> bool:
        """Whether nobody of ours, and not KubeRay, is about to remove it."""
        if self._current is None or self._stopped or not self._is_current(pod):
            return False
        if self._grows and pod["metadata"]["labels"].get(names.ROLE) == names.WORKER:
            return False  # the autoscaler gives machines back, and the pool begins again what one of them was doing
        ray_job = self._ray_jobs.get(self._current)
        if ray_job is None or ray_job["metadata"].get("deletionTimestamp") or ray_job["spec"].get("suspend"):
            return False
        return (ray_job.get("status") or {}).get("jobDeploymentStatus") not in (*_TERMINAL, *_SUSPENDED)

    def causes(self) -> list[str]:
        """What ended pods of the current attempt against their will."""
        return self._ledger.causes

    def _words(self, status: dict[str, Any]) -> str:
        parts = [status.get("jobDeploymentStatus"), status.get("reason"), (status.get("message") or "").strip()[-1500:]]
        return ": ".join(filter(None, [*parts, *self._ledger.causes]))


def _late(where: Kubernetes, status: dict[str, Any], now: float) -> str:
    """Which deadline has passed unnoticed by KubeRay, which may look away for minutes; a queue does not count."""
    began, state = status.get("startTime"), status.get("jobDeploymentStatus") or ""
    if not began or state in _SUSPENDED:
        return ""
    passed = now - pods.seconds(began) - DEADLINE_SLACK_S
    if state == "Initializing" and passed > where.start_deadline_s:
        return f"DeadlineExceeded: its machines were not there within start_deadline_s={where.start_deadline_s:g}"
    if where.deadline_s is not None and passed > where.deadline_s:
        return f"DeadlineExceeded: the attempt took longer than deadline_s={where.deadline_s:g}"
    return ""


def _is_at(data: dict[str, Any], leg: int, attempt: int) -> bool:
    return (data["leg"], data["attempt"]) == (leg, attempt)


def _is_over(ray_job: dict[str, Any]) -> bool:
    ended = (ray_job.get("status") or {}).get("jobDeploymentStatus") in _TERMINAL
    return ended or bool(ray_job["metadata"].get("deletionTimestamp"))


def abandon(bundle: Bundle) -> bool:
    """From within the supervisor's pod: the bundle first, then the Job, which owns this very process and all else."""
    facts = run_facts(bundle)
    kube = Kube(None, facts.kubernetes.namespace)
    if not bundle.give_up():
        return False
    ABANDON(lambda: kube.delete(JOBS, facts.run_id))
    return True
