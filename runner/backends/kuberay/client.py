"""The client's side of runs on Kubernetes: the supervisor's Job is made, looked for and removed through the API."""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import unquote

from runner.backends.kuberay import manifest
from runner.backends.kuberay.objects import leg_body, remove_machines, run_facts
from runner.errors import Cause, InputError, MissingPackage
from runner.kube import identity, names
from runner.kube.client import JOBS, PODS, RAY_JOBS, Kube, KubeError
from runner.kube.ledger import Ledger
from runner.kube.why.seen import look
from runner.kube.why.why import reasons
from runner.record import Bundle, View, fold
from runner.record.reasons import Reason
from runner.untrusted.names import NAMESPACE

#: Seconds between two looks at the Job, and after which a run without one counts as lost.
LOOK_S, TAKE_UP_S = 5.0, 60.0
_GO_THERE = "set KUBECONFIG, or its context; if that cluster is gone for good: runner cancel --gone"


class KubeRayClient:
    """A run on Kubernetes: its supervisor is a batch Job."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._opened: Kube | None = None
        self._looked, self._lost, self._late = 0.0, False, False

    @property
    def _kube(self) -> Kube:
        if self._opened is None:
            where = run_facts(self._bundle).kubernetes
            self._opened = Kube(where.context, where.namespace)
        return self._opened

    def launch(self) -> None:
        """Make the supervisor's Job. Its name is the run's id, so there is never a second one."""
        facts = run_facts(self._bundle)
        self._bundle.mark_cluster(identity.mark(self._kube, facts.kubernetes.service_account), self._kube.host)
        self._check_here()
        body = manifest.supervisor_job(facts)
        made = self._kube.create(JOBS, body)
        if made is not None:
            self._start_first(made)
        elif _is_resumed(fold(self._bundle.log.read())):  # the Job is the one that ended the run, and about to be over
            self._await_over()
            self._remove_job()
            self._kube.create(JOBS, body)

    def _start_first(self, owner: dict[str, Any]) -> None:
        """Make the first attempt's RayJob, as the supervisor would in some seconds: both make the same, once.

        Its driver waits for the supervisor to begin the attempt. A supervisor that waits in a queue itself asks for
        machines when it has come: until then they would stand idle.
        """
        if owner["spec"].get("suspend"):
            return
        spec = self._bundle.spec()
        planned = spec.plan.planned()
        stages = [planned[name] for name in spec.legs[0]]
        if not self._bundle.log.read() and any(stage["action"] != "skip" for stage in stages):
            try:
                self._kube.create(RAY_JOBS, leg_body(run_facts(self._bundle), stages, 0, 1, owner))
            except KubeError as error:
                if error.status in (401, 403, 422):
                    raise
                # A moment's trouble (Kueue, under load, may not have heard of the Job yet): the supervisor makes it.

    def is_lost(self, view: View) -> bool:
        """Asked of the API every few seconds; where that does not answer, nothing is known."""
        now = time.monotonic()
        since = time.time() - (view.resumed or view.created)
        if since <= TAKE_UP_S:
            self._lost = self._late = False  # what was seen before a resume was of the supervisor before it
        elif now - self._looked > LOOK_S:
            self._looked = now
            try:
                job = self._kube.find(JOBS, self._bundle.run_id)
                gone = job is None or _is_over(job) or self._never_came(job, view, since)
                self._lost = gone and self.is_here()
            except (KubeError, InputError):  # InputError: this machine has no way to that cluster
                self._lost = False
        return self._lost

    def _never_came(self, job: dict[str, Any], view: View, since: float) -> bool:
        """Whether no supervisor came within the time that machines may take (an image that does not exist, say)."""
        late = since > run_facts(self._bundle).kubernetes.start_deadline_s
        self._late = late and view.supervisor is None and not job["spec"].get("suspend")
        return self._late

    def nudge(self, view: View) -> None:
        """Nothing to do: the supervisor looks at the log often enough."""

    def await_change(self, view: View, seconds: float) -> None:
        """Return when the supervisor ends, where that can be seen, or after so many seconds."""
        time.sleep(seconds)

    def why(self) -> list[Reason]:
        """What the machines wait for, the most telling first."""
        if not self.is_here():
            words = f"nothing that can be seen from here: {self._elsewhere()}"
            return [Reason(words, None, _GO_THERE, cause=Cause.API_AWAY)]
        return reasons(look(self._kube, self._bundle.run_id))

    def how_lost(self) -> str:
        """What is known of how a lost run's supervisor ended."""
        return "it did not come up within start_deadline_s" if self._late else "killed, or the machine restarted"

    def last_words(self) -> str:
        """None: a supervisor that fails writes why into the log."""
        return ""

    def remove(self) -> dict[str, Any]:
        """Delete the Job and what it owns; what remains is counted."""
        self._check_here()
        facts = run_facts(self._bundle)
        ledger = Ledger(facts.cluster.gpu_resources, self._bundle)
        there = self._kube.select(PODS, names.machines_of(facts.run_id))
        for pod in there:
            ledger.saw(pod)
        ledger.load({pod["metadata"]["uid"] for pod in there})
        remains = remove_machines(self._kube, facts, threading.Event(), ledger)
        self._remove_job()
        return remains

    def is_here(self) -> bool:
        """Whether this kubeconfig leads to the cluster of the run: what is not found on another is not lost."""
        try:
            return identity.leads_to(self._kube, self._bundle.cluster().mark)
        except MissingPackage:
            raise
        except InputError:
            return False  # this machine has no way to any

    def _elsewhere(self) -> str:
        address = self._bundle.cluster().address or "another"
        return f"the run is on the cluster {address}, and this kubeconfig leads to {self._kube.host}"

    def _check_here(self) -> None:
        if not self.is_here():
            raise InputError(
                f"{self._elsewhere()} (or to one that was made anew there)",
                allowed="the cluster of the run",
                todo=_GO_THERE,
                where=self._bundle.run_id,
            )

    def _await_over(self) -> None:
        deadline = time.monotonic() + TAKE_UP_S
        while not self._over() and time.monotonic() < deadline:
            time.sleep(0.5)

    def _over(self) -> bool:
        """Whether the Job is gone, or will start no pod any more."""
        job = self._kube.find(JOBS, self._bundle.run_id)
        return job is None or _is_over(job)

    def _job(self) -> dict[str, Any] | None:
        """The supervisor's Job, to be removed: one that has but the run's name is somebody else's."""
        found = self._kube.find(JOBS, self._bundle.run_id)
        return found if found is not None and names.is_of(found, self._bundle.run_id, self._bundle.root.url) else None

    def _remove_job(self) -> None:
        """Returns when the name is free again, if it is ours that has it."""
        labels = f"{names.of_run(self._bundle.run_id)},{names.ROLE}={names.SUPERVISOR}"
        job = self._job()
        if job is None:
            return
        self._kube.delete(JOBS, self._bundle.run_id, propagation="Foreground", uid=job["metadata"]["uid"])
        deadline = time.monotonic() + 60
        while self._job() or self._kube.select(PODS, labels):
            if time.monotonic() > deadline:
                raise KubeError(
                    0, "Timeout", f"Job {self._bundle.run_id} does not go away; is the API's controller up?"
                )
            time.sleep(0.5)


def living(where: str) -> set[str] | None:
    """The runs at a place whose supervisors live; None where that cannot be asked."""
    rest, _, marked = where.rpartition("/")
    context, _, namespace = rest.rpartition("/")
    if not NAMESPACE.fits(namespace):
        return None
    try:
        kube = Kube(context or None, namespace)
        if not identity.leads_to(kube, unquote(marked)):
            return None
        jobs = kube.select(JOBS, f"{names.ROLE}={names.SUPERVISOR}")
    except (KubeError, InputError):
        return None
    return {job["metadata"]["name"] for job in jobs if not _is_over(job)}


def _is_over(job: dict[str, Any]) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    ended = any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions)
    return ended or bool(job["metadata"].get("deletionTimestamp"))


def _is_resumed(view: View) -> bool:
    """Whether a resume has asked for a supervisor that has not come yet."""
    return view.resumed is not None and view.supervisor is None and not view.state.ended
