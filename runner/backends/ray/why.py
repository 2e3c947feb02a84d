"""What a run on a Ray cluster waits for, as the cluster tells it."""

from __future__ import annotations

import time
from collections import Counter

from runner.backends.ray import jobs as ray_jobs
from runner.backends.ray.api import RayApi
from runner.errors import Cause
from runner.record import Bundle, View
from runner.record.reasons import Reason

_SHOWN = ("CPU", "GPU")


def reasons(api: RayApi, bundle: Bundle, view: View) -> list[Reason]:
    """As `ClientSide.why`."""
    name = ray_jobs.supervisor_id(bundle)
    if view.attempt_open:
        name = ray_jobs.driver_id(bundle.run_id, view.leg, view.attempt)
    job = api.job(name)
    if job is None:
        return []
    since = (job.get("start_time") or time.time() * 1000) / 1000
    if job["status"] == "PENDING":
        words = f"Ray to start job {name}: {(job.get('message') or '').strip()[:300]}"
        return [Reason(words, since, f"see the job in the dashboard at {api.address}", cause=Cause.QUEUE)]
    wanted = _wanted(api, job["job_id"]) if job.get("job_id") else []
    if not wanted:
        return []
    used = ", ".join(f"{have[0]:g} of {have[1]:g} {kind} in use" for kind, have in _usage(api))
    helps = "wait until others are done, add machines to the Ray cluster, or ask for fewer workers"
    return [Reason(f"{', '.join(wanted)} on the Ray cluster ({used})", since, helps, cause=Cause.NO_ROOM)]


def _wanted(api: RayApi, job_id: str) -> list[str]:
    """What the scheduler has no room for yet, in words: ranks (as bundles of a placement group) and single actors."""
    pending = [group for group in api.placement_groups(job_id) if group["state"] in ("PENDING", "RESCHEDULING")]
    bundles = [bundle.get("unit_resources") or {} for group in pending for bundle in group.get("bundles") or []]
    waiting = [actor for actor in api.actors(job_id) if actor["state"] == "PENDING_CREATION"]
    actors = [] if pending else [actor.get("required_resources") or {} for actor in waiting]
    shapes = Counter(_shape(each) for each in [*bundles, *actors])
    return [f"{number} x {{{shape}}}" for shape, number in shapes.items() if shape]


def _shape(resources: dict[str, float]) -> str:
    return ", ".join(f"{kind}: {resources[kind]:g}" for kind in _SHOWN if resources.get(kind))


def _usage(api: RayApi) -> list[tuple[str, list[float]]]:
    usage = api.usage()
    return [(kind, usage[kind]) for kind in _SHOWN if kind in usage]
