"""A Ray for one run: in a pod that of its cluster, which gets the run's code; otherwise one that is started here."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from runner.code import extras, optimized, references
from runner.data import limits
from runner.worker import processes, ray_worker
from runner.worker.scope import Scope

#: Runs first in each of Ray's workers.
HOOK = f"{ray_worker.begin.__module__}.{ray_worker.begin.__name__}"


def start(scratch: Path, workers: int) -> bool:
    """Initialise Ray in this process. Returns False, and does nothing, if it is already.

    Args:
        scratch: the run's temporary folder; a Ray of our own keeps its session there, so that it goes with the run.
        workers: how many workers must find a CPU; a laptop has fewer cores than a job may name.

    Raises:
        MissingPackage: this machine has no Ray.
    """
    extras.need("ray", f"a Ray for the run on {os.uname().nodename}")
    import ray

    if ray.is_initialized():
        return False
    in_main = threading.current_thread() is threading.main_thread()
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        return _start(scratch, workers)
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, terminated)  # Ray sets one of its own, and a driver has its own way to leave


def _start(scratch: Path, workers: int) -> bool:
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)  # it warns before it looks at what `init` is told
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    code = references.code_folder()
    if code is not None:
        os.environ["RAY_RUNTIME_ENV_IGNORE_GITIGNORE"] = "1"  # what was packed is what is needed
        ray.init(
            address="auto",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={
                "working_dir": str(code),
                "worker_process_setup_hook": HOOK,
                "env_vars": {
                    "PYTHONUNBUFFERED": "1",
                    **optimized.for_workers(),
                    **limits.variables(),
                    **_address(),
                },
            },
        )
        return True
    cores = max(os.cpu_count() or 1, workers + 1)
    with optimized.hidden():
        ray.init(
            num_cpus=cores,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            _temp_dir=str(scratch / "r"),
            object_store_memory=_object_store_bytes(),
            runtime_env={"env_vars": _environment(), "worker_process_setup_hook": HOOK},
        )
    return True


class RayOnDemand:
    """The part of an `Engine` that has a Ray only where a stage asks for it; one that was there is left alone."""

    _began = False

    def ray(self, scope: Scope, workers: int) -> None:
        """See `Engine`: a Ray of the run's own, for the stages that use Ray Data."""
        self._began = start(scope.scratch, workers) or self._began

    def close(self) -> None:
        """End the Ray, if one was started."""
        if self._began:
            stop()


def _address() -> dict[str, str]:
    """Of the Ray that is joined, for its workers: some ask Ray for its state, and a machine may have several Rays."""
    address = os.environ.get("RAY_ADDRESS")
    return {"RAY_ADDRESS": address} if address else {}


def _environment() -> dict[str, str]:
    """What Ray's workers inherit: the run's mark, where the user's code is, and the level of `python -O`."""
    return {
        **optimized.for_workers(),
        processes.MARK: os.environ.get(processes.MARK, ""),
        references.ROOT_VARIABLE: str(references.code_root() or ""),
    }


def stop() -> None:
    """End the Ray that `start` began, or leave the one that it joined."""
    if "ray" in sys.modules:
        import ray

        ray.shutdown()


def _object_store_bytes() -> int:
    """Small: it lies in shared memory, and blocks are a few MiB."""
    import psutil

    return int(min(1 << 30, psutil.virtual_memory().available * 0.2))
