"""The stages of a job in the order that their data dictates. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from runner.errors import PlanError, listed, suggest
from runner.spec import Dataset, Job, Prep, Stage, Train


def reads(stage: Stage) -> dict[str, str | Dataset]:
    """Key -> the dataset that a stage reads."""
    return dict(stage.data) if isinstance(stage, Train) else stage.sources


def writes(stage: Stage) -> tuple[str, ...]:
    """The names of the datasets that a stage writes."""
    return tuple(stage.sinks.values()) if isinstance(stage, Prep) else ()


def ordered(job: Job, exists: Iterable[str]) -> tuple[Stage, ...]:
    """The stages, each after those whose data it reads; otherwise in the order of the file.

    Args:
        job: whose data references are all names.
        exists: names of datasets that need no stage: definitions and published data.

    Raises:
        PlanError: two writers of one dataset, a missing input, a cycle.
    """
    writer = _writers(job)
    exists = list(exists)
    waiting, done = list(job.stages), []
    made: set[str] = set()
    for stage in job.stages:
        _check_inputs(stage, writer, exists)
    while waiting:
        ready = next((s for s in waiting if all(n in made or n not in writer for n in _names(s))), None)
        if ready is None:
            raise _cycle_error(job, waiting, writer)
        waiting.remove(ready)
        done.append(ready)
        made.update(writes(ready))
    return tuple(done)


def _names(stage: Stage) -> list[str]:
    return [str(reference) for reference in reads(stage).values()]


def _writers(job: Job) -> dict[str, Stage]:
    writer: dict[str, Stage] = {}
    for stage in job.stages:
        for name in writes(stage):
            if name in writer:
                raise PlanError(
                    f"stages '{writer[name].name}' and '{stage.name}' both write the dataset '{name}'",
                    allowed="one writer for each dataset",
                    todo=f"rename the sink of '{stage.name}'",
                    where=f"Job '{job.name}'",
                )
            writer[name] = stage
    return writer


def _check_inputs(stage: Stage, writer: dict[str, Stage], exists: list[str]) -> None:
    for key, name in reads(stage).items():
        if name not in writer and name not in exists:
            known = [*(sink for sink, made_by in writer.items() if made_by is not stage), *exists]
            there = f": {listed(sorted(set(known)))}" if known else "; there is none so far"
            field = f"data[{key!r}]" if isinstance(stage, Train) else "source"
            raise PlanError(
                f"{field}='{name}': no such dataset",
                allowed=f"a sink of another stage, a file in datasets/, published data{there}",
                todo=suggest(str(name), known) or f"write datasets/{name}.py: dataset = Dataset(url=...)",
                where=f"{type(stage).__name__} '{stage.name}'",
            )


def _cycle_error(job: Job, waiting: list[Stage], writer: dict[str, Stage]) -> PlanError:
    stage, path = waiting[0], [waiting[0].name]
    while True:
        needed = next(n for n in _names(stage) if n in writer and writer[n] in waiting)
        stage = writer[needed]
        path.append(f"'{needed}' of {stage.name}")
        if stage.name in [p.split(" of ")[-1] for p in path[:-1]]:
            break
    return PlanError(
        "the stages need each other's data: " + " needs ".join(path),
        allowed="stages whose data flows one way",
        todo="break the cycle by renaming a sink or a source",
        where=f"Job '{job.name}'",
    )
