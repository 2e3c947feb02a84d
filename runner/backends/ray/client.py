"""The client's side of runs on a Ray cluster: the supervisor's job is submitted, looked for and removed over HTTP."""

from __future__ import annotations

import time
from typing import Any

from runner.backends.ray import jobs as ray_jobs
from runner.backends.ray.api import TERMINAL, RayApi, RayApiError
from runner.backends.ray.machines import remove_drivers
from runner.record import Bundle, View, fold
from runner.record.reasons import Reason

#: Seconds between two looks at the job, and for which a client may have written to the log and not yet submitted.
LOOK_S, SUBMIT_S = 2.0, 30.0


class RayClient:
    """A run on a Ray cluster: its supervisor is a job of the Jobs API."""

    def __init__(self, bundle: Bundle, api: RayApi | None = None) -> None:
        self._bundle, self._opened = bundle, api
        self._looked, self._lost, self._how = 0.0, False, ""
        self._resumed: float | None = None  # of which resume that is

    @property
    def _api(self) -> RayApi:
        if self._opened is None:
            self._opened = RayApi.outside(ray_jobs.address(self._bundle))
        return self._opened

    def launch(self) -> None:
        """Submit the supervisor's job. Its id is the run's, so there is never a second one."""
        ray_jobs.start_supervisor(self._api, self._bundle)

    def is_lost(self, view: View) -> bool:
        """Asked of the cluster every few seconds; where that does not answer, nothing is known."""
        now = time.monotonic()
        if view.resumed != self._resumed:
            self._resumed, self._looked, self._lost = view.resumed, 0.0, False
        if now - self._looked > LOOK_S:
            self._looked = now
            try:
                self._lost = self._over(view)
            except RayApiError:
                self._lost = False
        return self._lost

    def _over(self, view: View) -> bool:
        name = ray_jobs.supervisor_id(self._bundle)
        job = self._api.job(name)
        if job is None:
            self._how = f"the Ray cluster knows no job {name}; it may have been started anew"
            return time.time() - (view.resumed or view.created) > SUBMIT_S
        if job["status"] not in TERMINAL:
            return False
        self._how = f"its Ray job {name} is {job['status']}: {(job.get('message') or '').strip()[-2000:]}"
        return True

    def is_here(self) -> bool:
        """Whether the cluster's dashboard answers."""
        return True

    def how_lost(self) -> str:
        """What is known of how a lost run's supervisor ended."""
        return self._how

    def last_words(self) -> str:
        """None besides what `how_lost` tells."""
        return ""

    def nudge(self, view: View) -> None:
        """Nothing to do: the supervisor looks at the log often enough."""

    def await_change(self, view: View, seconds: float) -> None:
        """Return when the supervisor ends, where that can be seen, or after so many seconds."""
        time.sleep(seconds)

    def why(self) -> list[Reason]:
        """What the machines wait for, the most telling first."""
        from runner.backends.ray.why import reasons

        return reasons(self._api, self._bundle, fold(self._bundle.log.read()))

    def remove(self) -> dict[str, Any]:
        """Stop the run's jobs, and delete them; what remains is counted."""
        return remove_drivers(self._api, self._bundle.run_id)
