"""Shell completion: names from the index and the project. A completion that fails completes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.record.index import IndexLine
    from runner.store import Store

Items = list[tuple[str, str]]
#: Runs that are offered, or whose jobs are, before anything of one's id has been typed.
_MOST = 1000


def complete_run(ctx: typer.Context, incomplete: str) -> Items:
    """Runs, newest first."""
    with _quietly():
        from runner.record.index import Index, merged

        store = _store(ctx)
        lines = _newest(store) if len(incomplete) < len("r2611") else merged(Index(store).lines(incomplete))
        return [(line.run_id, line.state) for line in reversed(lines) if line.run_id.startswith(incomplete)]
    return []


def complete_job(ctx: typer.Context, incomplete: str) -> Items:
    """Stems of jobs, or Python files where a path has been begun."""
    with _quietly():
        if "/" in incomplete or incomplete.endswith(".py"):
            return [
                (str(path), "")
                for path in sorted(Path().glob(f"{incomplete}*"))
                if path.suffix == ".py" or path.is_dir()
            ]
        from runner.plan.project import find_project
        from runner.spec import Job

        return [(stem, "") for stem in find_project().stems(Job) if stem.startswith(incomplete)]
    return []


def complete_cluster(ctx: typer.Context, incomplete: str) -> Items:
    """Clusters of the project, and the two that are built in."""
    with _quietly():
        from runner.plan.project import find_project
        from runner.spec import Cluster

        return [(stem, "") for stem in find_project().stems(Cluster) if stem.startswith(incomplete)]
    return []


def complete_stage(ctx: typer.Context, incomplete: str) -> Items:
    """Stages of the run that the command line names."""
    with _quietly():
        from runner.record import Bundle
        from runner.record.finding import find_run

        store = _store(ctx)
        stages = Bundle(store, find_run(store, ctx.params.get("run") or "@last")).spec().job.stages
        return [(stage.name, stage.kind.lower()) for stage in stages if stage.name.startswith(incomplete)]
    return []


def complete_ran(ctx: typer.Context, incomplete: str) -> Items:
    """Jobs that have run."""
    with _quietly():
        jobs = dict.fromkeys(line.job for line in _newest(_store(ctx)))
        return [(job, "") for job in sorted(jobs) if job.startswith(incomplete)]
    return []


def complete_state(incomplete: str) -> Items:
    """States of runs."""
    from runner.record.finding import STATES

    return [(state, "") for state in STATES if state.startswith(incomplete)]


def complete_kept(ctx: typer.Context, incomplete: str) -> Items:
    """Runs, newest first, and datasets."""
    return complete_run(ctx, incomplete) + complete_dataset(ctx, incomplete)


def complete_dataset(ctx: typer.Context, incomplete: str) -> Items:
    """Published datasets."""
    with _quietly():
        from runner.data.catalog import Catalog

        return [(name, "") for name in Catalog(_store(ctx)).folders() if name.startswith(incomplete)]
    return []


def _newest(store: Store) -> list[IndexLine]:
    """The runs that are worth a look where nothing is known of which."""
    from runner.record.finding import Wanted, select

    return select(store, Wanted(), _MOST)


def _store(ctx: typer.Context) -> Store:
    from runner.plan.project import find_project

    return find_project().store(ctx.params.get("store"))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with contextlib.suppress(RunnerError, OSError):
        yield
