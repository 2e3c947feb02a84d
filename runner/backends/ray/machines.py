"""A Ray cluster that is there already: an attempt at a leg is a job of Ray's Jobs API, and so is the supervisor itself.

Nothing of the cluster that is not the run's is touched. Ray's word for how an attempt ended is only that there is no
driver any more; the driver's own entries in the log decide.
"""

from __future__ import annotations

import atexit
import shutil
import threading
import time
from typing import Any

from runner.backends.base import DriverState
from runner.backends.ray.api import TERMINAL, RayApi, RayApiError
from runner.backends.ray.jobs import driver_id, is_driver, start_driver
from runner.code import references
from runner.errors import Cause, WorkerAway
from runner.record import Bundle, fold
from runner.record.endings import Ending
from runner.record.failures import is_a
from runner.record.history import LOST
from runner.store.retry import Retry
from runner.worker import processes

#: Seconds between two looks at the job.
LOOK_S = 1.0
#: A dashboard may not answer for a minute while an attempt is to be started.
START = Retry(60.0, longest_s=LOOK_S)
#: Seconds after which what is left is counted as left.
LONGEST_CLEAN_S = 60.0
#: Seconds after a job's end in which Ray's monitor of it may look once more, and would write a deleted one down anew.
MONITOR_S = 2.5
#: Seconds that Ray may take to give up a machine that does not answer any more.
NODE_S = 45.0
_GONE = ("DEAD",)


class RayJobsBackend:
    """The machines of one run, seen from its supervisor.

    Args:
        bundle: of the run.
        api: the cluster's; that of the job in which this process runs if it is not given.
    """

    def __init__(self, bundle: Bundle, api: RayApi | None = None) -> None:
        self._bundle, self._api = bundle, api or RayApi.inside()
        self._changed = threading.Event()
        self._current: str | None = None
        self._ended: str | None = None  # how the current driver ended, once it has
        self._job_id: str | None = None
        self._lost: dict[str, str] = {}  # machines of the current attempt that died: id -> in words
        self._dead_before: set[str] = set()
        self._asked = False
        self._looked = 0.0

    # -- the seam ------------------------------------------------------------------------------------------------

    def attach(self, leg: int, attempt: int) -> None:
        """Take up the job of that attempt, if an earlier supervisor submitted it."""
        name = driver_id(self._bundle.run_id, leg, attempt)
        if self._api.job(name) is not None:
            self._turn(name)

    def prepare(self, leg: int) -> None:
        """Nothing to do: the cluster is there."""

    def start(self, leg: int, attempt: int) -> None:
        """Submit the driver's job; one of that id that exists already is it. The one before is stopped."""
        START(lambda: self._start(leg, attempt), START.trouble(pause=self.wait))

    def _start(self, leg: int, attempt: int) -> None:
        name = driver_id(self._bundle.run_id, leg, attempt)
        if self._current is not None and self._current != name:
            self._api.stop(self._current)
        processes.scratch_folder(self._bundle.run_id)
        self._turn(name)
        self._dead_before = {node["node_id"] for node in self._api.nodes() if node["state"] in _GONE}
        start_driver(self._api, self._bundle, leg, attempt)

    def _turn(self, name: str) -> None:
        self._current, self._ended, self._job_id = name, None, None
        self._lost, self._dead_before, self._asked = {}, set(), False
        self._looked = 0.0

    def observe(self) -> tuple[DriverState, str]:
        """The job's state; while the dashboard does not answer, nothing new is known."""
        if self._current is None:
            return DriverState.NONE, ""
        now = time.monotonic()
        try:
            if self._ended is None and now - self._looked >= LOOK_S:
                self._looked = now
                self._look_at_job(self._current)
        except RayApiError as error:
            if error.status in (401, 403):
                raise
        if self._ended is not None:
            return DriverState.EXITED, self._ended
        return DriverState.RUNNING, ""

    def _look_at_job(self, name: str) -> None:
        job = self._api.job(name)
        if job is None:
            self._ended = f"Ray job {name} was deleted"
            return
        self._job_id = job.get("job_id") or self._job_id
        if job["status"] in TERMINAL:
            self._ended = f"Ray job {name} {job['status']}: {(job.get('message') or '').strip()[-2000:]}"

    def _look_at_nodes(self) -> None:
        """Machines that died while actors of the attempt were on them."""
        dead = {node["node_id"]: node for node in self._api.nodes() if node["state"] in _GONE}
        fresh = dead.keys() - self._dead_before - self._lost.keys()
        if not fresh or self._job_id is None:
            return
        used = {actor.get("node_id") for actor in self._api.actors(self._job_id)}
        for node_id in sorted(fresh & used):
            why = dead[node_id].get("state_message") or "it does not answer any more"
            self._lost[node_id] = f"machine {dead[node_id]['node_ip']} of the Ray cluster died: {why}"

    def loss(self) -> str:
        """LOST or not, asked anew: a driver may see a machine's end up to NODE_S before Ray gives it up."""
        deadline = time.monotonic() + (NODE_S if self._is_undecided() else 0.0)
        while self._current is not None and self._ended != "stopped" and not self._lost:
            try:
                self._look_at_nodes()
            except RayApiError:
                break
            if self._lost or time.monotonic() >= deadline:
                break
            time.sleep(LOOK_S)  # Ray tells nobody when it gives a machine up
        return LOST if self._lost else ""

    def _is_undecided(self) -> bool:
        """Whether the driver lost a rank and cannot say how; asked once an attempt."""
        if self._asked:
            return False
        error = fold(self._bundle.log.read()).error
        self._asked = error is not None
        return is_a(error, WorkerAway)

    def endings(self) -> list[Ending]:
        """What ended machines against their will."""
        return [Ending(words, Cause.MACHINE_LOST) for words in self._lost.values()]

    def wait(self, timeout_s: float) -> None:
        """Return when the driver ends, when `wake` is called, or after `timeout_s` seconds."""
        self._changed.wait(timeout_s)
        self._changed.clear()

    def wake(self) -> None:
        """Make a `wait` return, which another thread is in."""
        self._changed.set()

    def stop(self, grace_s: float) -> None:
        """The driver reads the log and ends by itself; after `grace_s` seconds its job is stopped."""
        deadline = time.monotonic() + grace_s
        while self.observe()[0] is DriverState.RUNNING and (left := deadline - time.monotonic()) > 0:
            self.wait(min(left, LOOK_S))
        if self._current is not None and self._ended is None:
            end_jobs(self._api, [self._current], LONGEST_CLEAN_S)
        self._ended = "stopped"

    def clean(self) -> dict[str, Any]:
        """Leave no job of a driver, no actor and no process of the run."""
        remains = remove_drivers(self._api, self._bundle.run_id)
        left = processes.end_all(self._bundle.run_id, grace_s=2.0)
        scratch = int(processes.remove_scratch(self._bundle.run_id))
        code = references.code_folder()
        if code is not None:  # this very process runs from it
            atexit.register(shutil.rmtree, code, ignore_errors=True)
        return {**remains, "processes": left, "scratch_folders": scratch}


def remove_drivers(api: RayApi, run_id: str) -> dict[str, Any]:
    """Stop a run's drivers, wait until their actors are gone, and delete their jobs.

    Returns:
        What remains: "jobs", "actors" and "placement_groups".
    """
    found = {job["submission_id"]: job for job in api.jobs() if is_driver(run_id, job["submission_id"])}
    left = end_jobs(api, list(found), LONGEST_CLEAN_S)
    drivers = [job["job_id"] for job in found.values() if job.get("job_id")]
    forgotten = time.monotonic() + (MONITOR_S if found else 0.0)
    held = _await_nothing_held(api, drivers)
    time.sleep(max(0.0, forgotten - time.monotonic()))
    for name in found:
        if name not in left:
            api.delete(name)
    return {"jobs": len(left), **held}


def end_jobs(api: RayApi, submission_ids: list[str], timeout_s: float) -> list[str]:
    """Stop jobs, if they are not over. Returns those that are still there after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    left = [name for name in submission_ids if not _is_over(api, name)]
    for name in left:
        api.stop(name)
    while left and time.monotonic() < deadline:
        time.sleep(0.2)  # Ray tells no end of a job
        left = [name for name in left if not _is_over(api, name)]
    return left


def _is_over(api: RayApi, name: str) -> bool:
    job = api.job(name)
    return job is None or job["status"] in TERMINAL


def _await_nothing_held(api: RayApi, drivers: list[str]) -> dict[str, int]:
    """Ray ends the actors of a driver that is gone; returns how many there are after LONGEST_CLEAN_S."""
    deadline = time.monotonic() + LONGEST_CLEAN_S
    while True:
        actors = sum(map(_is_held, [actor for driver in drivers for actor in api.actors(driver)]))
        groups = [group for driver in drivers for group in api.placement_groups(driver) if group["state"] != "REMOVED"]
        if not (actors or groups) or time.monotonic() > deadline:
            return {"actors": actors, "placement_groups": len(groups)}
        time.sleep(0.2)


def _is_held(actor: dict[str, Any]) -> bool:
    """A living actor that should go with its driver. Detached ones are Ray's services of the whole cluster, or stay by
    the wish of the user's code; the one of Ray Train ends a moment after its gang.
    """
    return actor["state"] != "DEAD" and (not actor["is_detached"] or actor["class_name"] == "PlacementGroupCleaner")
