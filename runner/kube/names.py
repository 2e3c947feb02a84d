"""Labels and names of a run's objects; the same for whoever makes them and whoever looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUN, JOB, LEG, ATTEMPT, ROLE = (f"lake-runner/{word}" for word in ("run", "job", "leg", "attempt", "role"))
STORE, BY = "lake-runner/store", "lake-runner/by"
#: DATA: the machines whose workers transform batches; the ranks do without one for a while.
SUPERVISOR, HEAD, WORKER, DATA = "supervisor", "head", "worker", "data"
QUEUE, QUEUE_PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"


def of_run(run_id: str) -> str:
    """The label selector of all that belongs to a run."""
    return f"{RUN}={run_id}"


def machines_of(run_id: str) -> str:
    """The label selector of a run's machines: its pods without the supervisor's."""
    return f"{RUN}={run_id},{ROLE}!={SUPERVISOR}"


def ray_job(run_id: str, leg: int, attempt: int) -> str:
    """The name of an attempt's RayJob; at most 47 characters, as a run id has at most 28."""
    return f"{run_id}-{leg}-{attempt}"


def data_group(group: str, ranks: str) -> str:
    """What a RayCluster calls machines of `group` that transform batches; its ranks may be on the same group."""
    name = f"{group}-{DATA}"
    return name if name != ranks else f"{name}-{DATA}"


def is_of(body: Mapping[str, Any], run_id: str, store: str) -> bool:
    """Whether an object says of itself that it belongs to this very run: anybody may give a name, or a label."""
    labels, notes = (body["metadata"].get(key) or {} for key in ("labels", "annotations"))
    return labels.get(RUN) == run_id and notes.get(STORE) == store
