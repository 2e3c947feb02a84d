"""Everything that is checked of a job before anything is spent."""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from runner.backends.registry import kind_of
from runner.client.guards import caller_file, check_callables, check_constants, refuse_while_loading
from runner.client.start_from import beginning
from runner.code import isolation, packages, references
from runner.code.modules import inside_of
from runner.errors import InputError, listed, suggest
from runner.plan import facts, plan
from runner.plan.project import Project, find_project, split_reference
from runner.plan.resolve import Resolved, resolve
from runner.spec import Cluster, Job, Prep
from runner.spec import changes as spec_changes
from runner.spec.config import settled
from runner.untrusted import switches


@dataclasses.dataclass(frozen=True)
class Carried:
    """A value of a process whose modules are about to be imported anew, and its classes with them.

    Args:
        value: as it is.
        data: its pickle, which names its classes.
    """

    value: Any
    data: bytes

    @classmethod
    def of(cls, value: Any) -> Any:
        """`value` itself where it cannot be pickled."""
        try:
            data = pickle.dumps(value)
        except Exception:  # whatever a class says of itself; the checks of the config will name the field
            return value
        return cls(value, data)

    def again(self) -> Any:
        """The value, of the classes that this process has by their names now."""
        try:
            return pickle.loads(self.data)
        except Exception:  # a class that is gone from its file: its old one is refused where it does not fit
            return self.value


class Prepared:
    """A job that passed every check, ready to be started.

    Args:
        resolved: the job with all names resolved.
        facts: what was found of its data.
        plan: what the run will do.
        lock: of the packages that the job brings; None if it brings none.
        source: by which name the project has the job; None for a job that a script made.
        changes: to the job, as ``--set``.
        begins: from which checkpoint of another run.
        force: stages, and datasets with a `make`, that are made although they exist.
    """

    def __init__(
        self,
        resolved: Resolved,
        found: facts.Facts,
        made: plan.Plan,
        lock: str | None = None,
        source: str | None = None,
        changes: Mapping[str, Any] | None = None,
        begins: dict[str, Any] | None = None,
        force: Collection[str] = (),
    ) -> None:
        self.resolved, self.facts, self.plan, self.lock = resolved, found, made, lock
        self.source, self.changes, self.begins, self.force = source, dict(changes or {}), begins, force

    @property
    def brought(self) -> dict[str, str]:
        """Normal name -> version of the packages that the job brings."""
        return packages.versions(self.lock) if self.lock is not None else {}


def prepare(
    job: Job | str | Path,
    *,
    cluster: str | Cluster | None = None,
    store: str | None = None,
    changes: Mapping[str, Any] | None = None,
    force: bool | str | Collection[str] = False,
    start_from: str | None = None,
    start_with: str = "weights",
) -> Prepared:
    """Everything that is checked before anything is spent; see `submit`."""
    refuse_while_loading()
    isolation.leave()  # files may have been edited since
    given = job
    project, job = _find(job)
    if cluster is not None:
        changes = {**(changes or {}), "cluster": cluster}
    again = {name: v.again() if isinstance(v, Carried) else v for name, v in (changes or {}).items()}
    changes, placed = spec_changes.of_cluster(job, again)
    job = spec_changes.apply(job, changes)
    job = dataclasses.replace(job, config=settled(job.config, project.root))
    check_callables(job, project)
    check_constants(job, project)
    resolved = resolve(job, project, project.store(store))
    resolved = dataclasses.replace(resolved, cluster=spec_changes.place(resolved.cluster, placed))
    kind = kind_of(resolved.cluster)
    if not kind.remote:
        switches.check(os.environ, "your environment")
    forced = _forced(resolved, force)
    wanted = dict.fromkeys((*resolved.job.packages, *resolved.cluster.packages))
    lock = packages.lock(list(wanted)) if wanted else None
    found = facts.gather(resolved, forced, packages.versions(lock) if lock is not None else {})
    made = plan.make_plan(resolved, found, kind.layout(resolved.cluster))
    begins = None if start_from is None else beginning(resolved, start_from, start_with)
    return Prepared(resolved, found, made, lock, _source(given, project), changes, begins, forced)


def _forced(resolved: Resolved, force: bool | str | Collection[str]) -> list[str]:
    """The stages to make anyway; with all of them also the datasets that a function makes."""
    preps = [stage.name for stage in resolved.job.stages if isinstance(stage, Prep)]
    if force is True:
        return preps + [name for name, dataset in resolved.datasets.items() if dataset.make is not None]
    named = [force] if isinstance(force, str) else list(force or ())
    for name in named:
        if name not in preps:
            raise InputError(
                f"force='{name}'",
                allowed=f"a Prep stage of the job: {listed(preps)}",
                todo=suggest(name, preps),
                where=f"Job '{resolved.job.name}'",
            )
    return named


def _find(job: Job | str | Path) -> tuple[Project, Job]:
    if isinstance(job, Job):
        return _project_of(job), job
    if not isinstance(job, str | Path):
        raise InputError(f"submit({job!r})", allowed="a Job, the path of a job file, or its stem", todo="give one")
    path = Path(split_reference(job)[0])
    project = find_project(path if path.suffix == ".py" else None)
    return project, project.job(job)


def _project_of(job: Job) -> Project:
    """Around the script that is running, if it holds the functions; else around their own files."""
    file = caller_file()
    project = _around(file) if file is not None else find_project()
    for stage in job.stages:
        for function in (stage.fn, getattr(stage, "transform", None)):
            held = None if function is None else references.file_of(function)
            if held is not None and inside_of(held, project.root) is None:
                return _around(held)
    return project


def _around(file: Path) -> Project:
    """The project that holds a file; where there is none, what it is imported from."""
    project = find_project(file.parent)
    return project if project.found else find_project(references.folder_of(file))


def _source(given: Job | str | Path, project: Project) -> str | None:
    """By which name the project has a job, from its root: its stem, or the path of its file."""
    if isinstance(given, Job):
        return None
    text, name = split_reference(given)
    inside = inside_of(Path(text), project.root) if text.endswith(".py") else None
    return f"{text if inside is None else inside}{f':{name}' if name else ''}"
