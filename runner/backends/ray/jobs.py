"""What a run on a Ray cluster asks of the Jobs API: the ids of its jobs, and what each of them is."""

from __future__ import annotations

import json
import re
from typing import Any

from runner.backends.entry import ENTRYPOINT, boot_text, programs_of
from runner.backends.ray.api import RayApi
from runner.code import optimized
from runner.kube import names
from runner.record import Bundle
from runner.record.entries import Resumed
from runner.spec import wire
from runner.worker import processes

#: Seconds that Ray gives a supervisor between SIGTERM and SIGKILL: it ends the run, as `runner cancel` would.
SUPERVISOR_STOP_S = 90


def address(bundle: Bundle) -> str:
    """Of the cluster's dashboard, as a client knows it."""
    return str(wire.of_bundle(bundle, "cluster").address)


def supervisor_id(bundle: Bundle) -> str:
    """The submission id of the run's supervisor; each resume has another, since Ray never forgets an id in use."""
    resumes = sum(isinstance(entry.event, Resumed) for entry in bundle.log.read())
    return bundle.run_id if not resumes else f"{bundle.run_id}-s{resumes + 1}"


def driver_id(run_id: str, leg: int, attempt: int) -> str:
    """The submission id of an attempt's driver."""
    return names.ray_job(run_id, leg, attempt)


def is_driver(run_id: str, submission_id: str) -> bool:
    """Whether the job is the driver of an attempt of that run."""
    return re.fullmatch(rf"{re.escape(run_id)}-\d+-\d+", submission_id) is not None


def start_supervisor(api: RayApi, bundle: Bundle) -> bool:
    """Submit the supervisor, once."""
    environment = _environment(bundle, {"module": programs_of(bundle.spec().entry)["supervisor"]})
    environment["RAY_JOB_STOP_WAIT_TIME_S"] = str(SUPERVISOR_STOP_S)
    return api.submit(supervisor_id(bundle), f"exec {ENTRYPOINT}", environment, _metadata(bundle, "supervisor"))


def start_driver(api: RayApi, bundle: Bundle, leg: int, attempt: int) -> bool:
    """Submit the driver of an attempt, once.

    It and its children carry the run's mark, but not its Ray workers: Ray ends those, and runs services of the whole
    cluster (such as its AutoscalingCoordinator) in the environment of the job that needed them first.
    """
    spec = bundle.spec()
    argument = {
        "module": programs_of(spec.entry)["driver"], "leg": leg, "attempt": attempt, "parent": None,
        "scratch": str(processes.scratch_path(bundle.run_id)),
    }  # fmt: skip
    level = spec.optimized or ""  # whatever the cluster's machines have
    entrypoint = f"export {processes.MARK}={bundle.run_id} {optimized.VARIABLE}={level}; exec {ENTRYPOINT}"
    environment, metadata = _environment(bundle, argument), _metadata(bundle, f"attempt {attempt}")
    return api.submit(driver_id(bundle.run_id, leg, attempt), entrypoint, environment, metadata)


def _environment(bundle: Bundle, argument: dict[str, Any]) -> dict[str, str]:
    root, code = bundle.root, bundle.newest_code()
    run = {
        "store": root.url, "options": root.options, "run_id": bundle.run_id, "code": f"{bundle.store.url}/{code}",
        "sealed": bundle.sealed,
        "folder": f"lake-runner-{bundle.run_id}-{code.removesuffix('.zip')}",
    }  # fmt: skip
    return {"RUNNER_ARGUMENT": json.dumps({**argument, **run}), "RUNNER_BOOT": boot_text()}


def _metadata(bundle: Bundle, role: str) -> dict[str, str]:
    """Shown in Ray's dashboard."""
    return {"runner_run": bundle.run_id, "runner_role": role, "runner_store": bundle.root.url}
