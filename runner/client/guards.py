"""What would start runs in workers, or could not be called there: refused before anything is written."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any

from runner.code import constants, references, script
from runner.code.hashing import identify
from runner.code.modules import MAIN
from runner.errors import InputError, ProjectError
from runner.plan.project import Project
from runner.process.code_root import is_installed
from runner.process.package import PACKAGE
from runner.spec import Job, Prep, Train
from runner.spec.calls import takes_config
from runner.worker.processes import MARK


def refuse_while_loading() -> None:
    """A file that submits while it is being imported would start a run in every worker."""
    file = references.loading()
    if file is None and os.environ.get(MARK):
        file = str(getattr(sys.modules.get("__main__"), "__file__", "a worker"))
    if file is not None:
        raise ProjectError(
            f"{file} calls submit while it is being imported",
            allowed="submit under a guard",
            todo='put the call below `if __name__ == "__main__":`',
        )


def caller_file() -> Path | None:
    """The script that is running, if there is one."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is None or not Path(file).is_file() or Path(file).resolve().is_relative_to(PACKAGE):
        return None
    path = Path(file).resolve()
    return None if is_installed(path) or path.parent == Path(sys.executable).parent else path


def check_callables(job: Job, project: Project) -> None:
    """Every function must be loadable by another process, and take the arguments that it will be given."""
    for stage in job.stages:
        where = f"{type(stage).__name__} '{stage.name}', field 'fn'"
        found = references.reference(stage.fn, project.root, where)
        if found.module == MAIN:
            script.refuse_unguarded(PACKAGE)
        if inspect.isfunction(stage.fn):
            _check_arguments(stage.fn, where)
        if isinstance(stage, Prep) and stage.keep is not None:
            references.reference(stage.keep, project.root, f"Prep '{stage.name}', field 'keep'")
        if isinstance(stage, Train) and stage.transform is not None:
            where = f"Train '{stage.name}', field 'transform'"
            references.reference(stage.transform, project.root, where)
            if inspect.isfunction(stage.transform):
                takes_config(stage.transform, where)


def check_constants(job: Job, project: Project) -> None:
    """What preparations reach is in this process as workers will import it: with `inline` it makes their results."""
    for stage in job.stages:
        if isinstance(stage, Prep):
            used = [stage.fn] if stage.keep is None else [stage.fn, stage.keep]
            where = f"Prep '{stage.name}', field 'fn'"
            constants.refuse_other_constants(identify(used, project.root), project.root, where)


def _check_arguments(function: Any, where: str) -> None:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        shown = f"{function.__name__}{inspect.signature(function)}"
        expected = "(ctx, config)" if where.startswith("Train") else "(batch, config)"
        raise InputError(
            f"{shown}: {error}", allowed=f"a function of {expected}", todo="change it", where=where
        ) from None
