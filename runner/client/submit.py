"""Submitting a job: its machines are checked, its bundle is written, its run is launched."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from runner.backends.local import check as local_check
from runner.backends.registry import kind_of, kind_of_run, open_backend
from runner.client.bundling import write_bundle
from runner.client.prepare import Carried, Prepared, prepare
from runner.client.run import Run
from runner.code import isolation
from runner.errors import ApiError, InputError
from runner.plan.resolve import Resolved
from runner.process import interrupts
from runner.record import RunState, fold
from runner.record.failures import Failure
from runner.record.receipt import end_run
from runner.spec import Cluster, Job
from runner.untrusted import switches


def submit(
    job: Job | str | Path,
    *,
    cluster: str | Cluster | None = None,
    store: str | None = None,
    inline: bool = False,
    changes: Mapping[str, Any] | None = None,
    force: bool | str | Collection[str] = False,
    start_from: str | None = None,
    start_with: str = "weights",
    **config: Any,
) -> Run:
    """Check a job, write its bundle and start its run; returns at once (inline: when it has ended).

    Args:
        job: a Job, the path of a file that holds one, or the stem of a file in `jobs/`; of several in a file
            ``path:name``.
        cluster: instead of the job's.
        store: the URL of the store, instead of the project's.
        inline: run every stage in this process, at world size 1 with the same global batch; the user's own exceptions
            come through.
        changes: as ``--set``: config fields and ``stage.field`` to values (strings are converted), and on Kubernetes
            ``cluster.queue`` and ``cluster.priority``.
        force: the Prep stages to make although their results exist; True: all of them.
        start_from: ``RUN`` or ``RUN:CHECKPOINT`` (best, last or a step): training begins with the weights of that
            checkpoint of another run of the store, at step 0.
        start_with: 'weights', or 'all' that is tracked by the same name: optimizers, schedulers and values as well.
        config: config fields to values.

    Raises:
        InputError: something is wrong with the input; nothing was started.
    """
    if inline:
        watch_inline(late=isinstance(job, Job))
    given = {**(changes or {}), **config}
    if not isinstance(job, Job):
        given = {name: Carried.of(value) for name, value in given.items()}
    with isolation.isolated(keep=isinstance(job, Job)):
        prepared = prepare(
            job, cluster=cluster, store=store, changes=given, force=force, start_from=start_from, start_with=start_with
        )
        return start(prepared, inline=inline)


def watch_inline(*, late: bool) -> None:
    """Stages that run in this process run under its eyes.

    Args:
        late: the job's own modules have been loaded already.
    """
    from runner.prep import trace as prep_trace

    prep_trace.begin(late)


def start(prepared: Prepared, *, inline: bool = False) -> Run:
    """Write the bundle and start the run; see `submit`."""
    run = create(prepared, inline=inline, say=warnings.warn)
    try:
        launch(run, prepared.resolved if inline else None)
    except KeyboardInterrupt:
        run.cancel(by="Ctrl-C")  # whoever submitted it has no handle of it
        raise
    return run


def create(prepared: Prepared, *, inline: bool = False, say: Callable[[str], Any] = lambda words: None) -> Run:
    """Write the bundle: from then on the run exists, and nothing works on it until `launch`.

    Args:
        say: told what `check_machines` returns.
    """
    for words in () if inline else check_machines(prepared):
        say(words)
    if inline:
        switches.check(os.environ, "your environment")
        local_check.check_packages(prepared.resolved, prepared.plan, prepared.brought)
    bundle = write_bundle(prepared, inline=inline)
    return Run(prepared.resolved.store, bundle.run_id)


def check_machines(prepared: Prepared) -> list[str]:
    """What can be known of the machines before any is asked for. Raises InputError.

    Returns:
        What is no hindrance and should be known, in sentences.
    """
    return kind_of(prepared.resolved.cluster).check(prepared.resolved, prepared.plan, prepared.brought)


def launch(run: Run, inline: Resolved | None = None) -> None:
    """Set a run going, where making its bundle has not done so already.

    Args:
        inline: the resolved job, to run its stages in this process; None starts a supervisor, which outlives it.

    Raises:
        ApiError: the cluster refused, or did not answer; the run has failed, and can be resumed.
    """
    if inline is not None:
        from runner.client.inline import run_inline

        run_inline(run, inline)
        return
    kind = kind_of_run(run.bundle)
    if kind.supervised_here:
        from runner.control.supervisor import Supervisor

        Supervisor(run.bundle, open_backend(run.bundle)).run()
    elif not kind.launches_early or fold(run.bundle.log.read()).resumed:
        try:
            with interrupts.held():
                run.launch()
        except (ApiError, InputError) as error:  # a supervisor that has come up all the same finds that end, and leaves
            told = Failure.of(error).amended(before="no supervisor could be started")
            end_run(run.bundle, RunState.FAILED, told, {})
            raise
