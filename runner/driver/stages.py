"""How a stage is run: which engine serves it on which backend, and what must be made before it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from runner.backends.registry import kind_of_run
from runner.code import extras
from runner.record import Bundle
from runner.record.entries import DatasetMade
from runner.spec import Dataset, Prep, Stage, Train, wire
from runner.train.gang.base import Gang
from runner.worker.pool.base import Pool
from runner.worker.pool.lazy import LazyPool
from runner.worker.scope import Scope


class Engine(Protocol):
    """Processes for stages: a pool for Prep, a gang for Train, a Ray where one is needed."""

    def pool(self, stage: str, workers: tuple[int, int], scope: Scope) -> Pool:
        """A pool of workers, of the fewest and the most, for a Prep stage; the caller closes it."""

    def gang(self) -> Gang:
        """The launcher of ranks for Train stages."""

    def ray(self, scope: Scope, workers: int) -> None:
        """Make sure that Ray is initialised in this process, for whole-dataset transforms."""

    def close(self) -> None:
        """End everything that was started."""


def open_engine(bundle: Bundle, leg: Sequence[str]) -> Engine:
    """The engine of a run's backend for a leg of stages; its slow parts start at once, beside whatever comes next."""
    specs = [stage for stage in bundle.spec().job.stages if stage.name in leg]
    trains = any(spec.kind == "Train" for spec in specs)
    workers = max(spec.most_processes for spec in specs)
    if kind_of_run(bundle).on_ray:
        from runner.driver.engines.ray import RayEngine

        return RayEngine(workers)
    from runner.driver.engines.local import LocalEngine

    return LocalEngine(preps=any(spec.kind == "Prep" for spec in specs), trains=trains)


def run(stage: Stage, scope: Scope, engine: Engine) -> dict[str, Any]:
    """Run one stage to its end and return what the log keeps of it."""
    make_sources(stage, scope, engine)
    if isinstance(stage, Train):
        extras.need("train", f"Train '{stage.name}' on {os.uname().nodename}")
        from runner.train.stage import run_train

        return run_train(stage, scope, engine.gang())
    return _run_prep(stage, scope, engine)


def _run_prep(stage: Prep, scope: Scope, engine: Engine) -> dict[str, Any]:
    from runner.prep.stage import run_prep

    with _lazy_pool(engine, stage.name, stage.worker_range, scope) as pool:
        return run_prep(stage, scope, pool)


def _lazy_pool(engine: Engine, stage: str, workers: tuple[int, int], scope: Scope) -> Pool:
    return LazyPool(lambda: engine.pool(stage, workers, scope), lambda: engine.ray(scope, workers[1]))


def make_sources(stage: Stage, scope: Scope, engine: Engine) -> None:
    """Run `Dataset.make` for the stage's inputs that have one and are not in the store.

    Once a run, or a resume of it: all of its stages see the same data, and its folder gets no other files.
    """
    made_before = scope.made_since_resume()
    references = stage.data if isinstance(stage, Train) else stage.sources
    for reference in references.values():
        name, dataset = _definition(reference, scope)
        if dataset is None or dataset.make is None or name in made_before:
            continue
        from runner.prep.stage import run_make

        with _lazy_pool(engine, stage.name, (1, 1), scope) as pool:
            made = run_make(name, dataset, scope, pool)
        scope.record(DatasetMade(name, **made))


def _definition(reference: str | Dataset, scope: Scope) -> tuple[str, Dataset | None]:
    if isinstance(reference, Dataset):
        raise AssertionError("submit gives every dataset a name")
    raw = scope.spec.datasets.get(reference)
    return reference, wire.from_json(raw) if raw is not None else None
