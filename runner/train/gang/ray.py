"""The gang on a Ray: Ray Train's TorchTrainer as a launcher, and nothing more of it.

It places the ranks, sets up their process group and tells which ended how. Retries, checkpoints and metrics are ours.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.backends.registry import kind_of
from runner.code import references
from runner.errors import Interrupted, RunFailed, RunnerError, WorkerAway
from runner.spec import Train
from runner.spec.shape import DATA_RESOURCE, share_of_rank
from runner.train import accelerator
from runner.train.failure import Failure, first_failure
from runner.train.feeding.share import share
from runner.worker import ray_session, ray_words
from runner.worker.node import Node
from runner.worker.scope import Scope

if TYPE_CHECKING:
    from runner.train.feeding.helpers import Launcher

#: Settings of Ray Train that have no argument. What the user has set stays.
_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # 2 s by default: how late an end or a death is seen
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # restarts are ours
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it would say every line twice, in our file and in its log
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
#: On a cluster where others may be at work, ranks may have to wait for room.
_SHARED_SETTINGS = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800"}
_LOOK_S = 0.2
#: Seconds for which a rank keeps an echo to itself. Ray Train ends the gang at the first error that it sees, and it
#: sees a dead process later than the survivors' lost connections; there is no event to wait for.
_SETTLE_S = 3.0


class Told(Exception):
    """How a rank failed, on its way through Ray."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class RayGang:
    """Ranks as actors of Ray Train. The caller ends the Ray, or its own process, and they go with it."""

    def run(self, stage: Train, scope: Scope, argument: dict[str, Any]) -> dict[str, Any]:
        """Start the ranks by Ray Train on the machines of the cluster, and wait for all of them."""
        shared = _SHARED_SETTINGS if kind_of(scope.cluster).shared else {}
        for name, value in {**_SETTINGS, **shared}.items():
            os.environ.setdefault(name, value)
        ray_session.start(scope.scratch, stage.workers + stage.helpers)
        outcome: dict[str, Any] = {}
        thread = threading.Thread(target=_fit, args=(stage, scope, argument, outcome), daemon=True, name="ray-train")
        thread.start()
        while thread.is_alive():  # apart, so that signals and a stop reach this thread at once
            thread.join(_LOOK_S)
            if scope.stop.is_set():
                raise Interrupted("the training was stopped")
        if "error" in outcome:
            raise _explained(outcome["error"], stage)
        return dict(outcome["result"])


def _fit(stage: Train, scope: Scope, argument: dict[str, Any], outcome: dict[str, Any]) -> None:
    try:
        outcome["result"] = _trainer(stage, scope, argument).fit().return_value
    except BaseException as error:
        outcome["error"] = error


def _trainer(stage: Train, scope: Scope, argument: dict[str, Any]) -> Any:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig

    from runner.train.peers import COLLECTIVE_TIMEOUT_S, CPU_BACKEND, GPU_BACKEND

    kind, cluster = kind_of(scope.cluster), scope.cluster
    one_machine = kind.layout(cluster).one_machine
    shape = share_of_rank(cluster.groups[stage.on], kind.environment(cluster), one_machine=one_machine)
    gpu = shape.gpus > 0
    if one_machine:
        gpu = ray.cluster_resources().get("GPU", 0) >= stage.workers
    return TorchTrainer(
        run_ray_rank,
        train_loop_config={
            "scope": scope.payload(),
            "stage": stage.name,
            "argument": argument,
            "cores": shape.cores,
            "threads": shape.threads,
            "secret": secrets.token_bytes(32),
            "gpus": (shape.gpus or 1) if gpu and not shape.pretended else 0,
            "data_workers": stage.helpers,
            "data_resource": None if kind.layout(cluster).one_leg else DATA_RESOURCE,
            "vendor": scope.cluster.groups[stage.on].vendor if shape.gpus else None,
        },
        scaling_config=ScalingConfig(num_workers=stage.workers, use_gpu=gpu, resources_per_worker=shape.resources),
        torch_config=TorchConfig(
            backend=GPU_BACKEND if gpu and not shape.pretended else CPU_BACKEND, timeout_s=int(COLLECTIVE_TIMEOUT_S)
        ),
        run_config=RunConfig(
            name=f"{stage.name}-{scope.attempt}",
            storage_path=str(Path(scope.scratch) / "ray_train"),
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=2),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _helpers(config: dict[str, Any], rank: int, world_size: int) -> Launcher | None:
    """This rank's helpers, if the stage has any."""
    if not config["data_workers"]:
        return None
    from runner.train.gang.ray_helpers import RayHelpers

    count = share(config["data_workers"], rank, world_size)
    return RayHelpers(count, rank, config["stage"], config["scope"], config["data_resource"])


def run_ray_rank(config: dict[str, Any]) -> dict[str, Any]:
    """The entry of one rank inside Ray Train. Raises Told."""
    import ray.train

    from runner.train.failure import failure
    from runner.train.place import Place
    from runner.train.rank import run_rank
    from runner.worker.pool.child import redirect

    context = ray.train.get_context()
    place = Place(
        context.get_world_rank(),
        context.get_world_size(),
        context.get_local_rank(),
        context.get_local_world_size(),
        cores=config["cores"],
        told=config["threads"],
        alone=accelerator.sees_only_its_own(os.environ),
        secret=config["secret"],
        helpers=_helpers(config, context.get_world_rank(), context.get_world_size()),
    )
    machine = None
    try:
        machine = Node(config["scope"], config["stage"], f"rank{place.rank}")
        scope = machine.scope
        scope.bundle.stage_files.host(config["stage"], scope.attempt, f"rank{place.rank}", os.uname().nodename)
        root = references.code_root()
        if root is not None:
            os.chdir(root)
        redirect(str(scope.spool(config["stage"], "logs", f"rank{place.rank}")))
        stage = next(s for s in scope.job.stages if isinstance(s, Train) and s.name == config["stage"])
        promised = config["gpus"] * (1 if place.alone else place.local_world_size)
        accelerator.check(accelerator.Wanted(promised, config["vendor"], peers=place.world_size > 1))
        return run_rank(place, stage, scope, config["argument"])
    except BaseException as error:
        told = failure(place.rank, error)
        if told.is_echo:
            time.sleep(_SETTLE_S)
        raise Told(told) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if machine is not None:
            machine.close()


def _explained(error: BaseException, stage: Train) -> BaseException:
    """What Ray Train raised, in our words."""
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    if isinstance(error, WorkerGroupError):
        failures = [_failure(rank, e, stage.workers) for rank, e in error.worker_failures.items()]
        first = first_failure(failures)
        if all(each.is_echo for each in failures):  # whoever died has not said a word, and Ray has not seen it yet
            return WorkerAway(f"a rank of {stage.workers} is gone; another one says: {first}")
        return first
    if isinstance(error, ControllerError):
        return RunFailed(f"Ray Train could not start or keep the {stage.workers} ranks: {error.controller_failure}")
    return error


def _failure(rank: int, error: BaseException, workers: int) -> Failure:
    error = getattr(error, "_base_exc", error)
    if isinstance(error, Told):
        return error.failure
    if isinstance(error, RunnerError):
        return Failure.now(rank, error)
    words = str(getattr(error, "health_check_failure", error))
    return Failure.now(rank, ray_words.lost(f"rank {rank} of {workers} ended without a result", words))
