"""The commands that look at what there is: ps, status, logs, metrics, data ls."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.console import Commands, Output, console, print_json, print_table, say
from runner.untrusted.visible import log_line

if TYPE_CHECKING:
    from runner.client.run import Run
    from runner.record import View
    from runner.record.finding import Wanted
    from runner.store import Store


def open_store(url: str | None) -> Store:
    """The store that the user means."""
    from runner.plan.project import find_project

    return find_project().store(url)


def open_run(name: str, url: str | None) -> Run:
    """The run that the user means. Raises RunNotFound."""
    from runner.client.run import Run
    from runner.record.finding import find_run

    store = open_store(url)
    return Run(store, find_run(store, name))


def commands_for(store: Store, url: str | None) -> Commands:
    """Commands that will find the same store from the current folder."""
    from runner.plan.project import find_project

    return Commands(None if find_project().store().url == store.url else url or store.url)


def look(run: Run, commands: Commands) -> View:
    """A run's state; of a lost one it is said on standard error."""
    from runner.record import RunState

    view = run.view()
    if view.state is RunState.LOST:
        say_lost(run.id, commands)
    return view


def say_lost(run_id: str, commands: Commands) -> None:
    """Say that a run is without its supervisor, and what ends it: looking does not."""
    from rich.text import Text

    errors = console(sys.stderr)
    words = f"{run_id} is lost: its supervisor is gone (killed, or the machine restarted)"
    errors.print(Text(words, "yellow"), soft_wrap=True)
    for line in (commands("resume", run_id), commands("cancel", run_id)):
        errors.print(Text(f"  {line}", "cyan"), soft_wrap=True)


def ps(store: Store, most: int | None, commands: Commands, output: Output, wanted: Wanted | None = None) -> None:
    """List runs; `most` is how many of those that have ended."""
    from runner.views.listing import run_lines

    lines = run_lines(store, most, wanted)
    if output is Output.JSON:
        print_json([line.document() for line in lines])
    elif not lines:
        which = "such run" if wanted else "runs" if most != 0 else "run"
        say(f"no {which} {'is going ' if most == 0 else ''}in {store.url}")
    else:
        from runner.cli.tables import runs_table

        print_table(console(), runs_table(lines))
    for line in lines:
        if line.state == "lost":
            say_lost(line.run, commands)


def status(run: Run, commands: Commands, output: Output) -> None:
    """Show one run."""
    from runner.views.run import see

    seen = see(run, look(run, commands), time.time())
    if output is Output.JSON:
        from runner.views.documents import run_document

        print_json(run_document(seen))
        return
    from rich.text import Text

    from runner.cli.failures import print_failure
    from runner.cli.summary import next_commands, print_commands, print_run

    print_run(console(), seen)
    for reason in seen.reasons:
        console().print(Text(f"waits for {reason.waits_for}", "yellow"), soft_wrap=True)
    if seen.failure is not None:
        print_failure(console(), seen, commands)
    else:
        print_commands(console(), next_commands(seen, commands))


def logs(
    run: Run,
    stage: str | None,
    rank: int | None,
    follow: bool,
    commands: Commands,
    output: Output,
    *,
    tail: int | None = None,
    since: str | None = None,
    timestamps: bool = False,
) -> None:
    """Print what the processes of a run printed."""
    from runner.views import units

    begin = units.since(since, time.time()) if since is not None else None
    if output is Output.JSON:
        from runner.errors import InputError

        if follow:
            raise InputError("-f with -o json", allowed="one of the two", todo="leave out -f: JSON is one document")
        look(run, commands)
        lines = run.log_lines(stage, rank, tail=tail, since=begin)
        print_json([{"at": units.iso(line.at or None), "from": line.label, "line": line.text} for line in lines])
        return
    look(run, commands)
    silent = True
    for line in run.log_lines(stage, rank, follow, tail=tail, since=begin):
        silent = False
        when = f"{units.iso(line.at or None) or '-':<24} " if timestamps else ""
        who = "" if rank is not None else f"{line.label} | "
        sys.stdout.write(f"{when}{who}{log_line(line.text)}\n")
        if follow:
            sys.stdout.flush()
    if silent:
        say("nothing was printed", err=True)
    if follow:
        look(run, commands)


def metrics(run: Run, stage: str | None, plot: Path | None, commands: Commands, output: Output) -> None:
    """Print or draw the metrics of a run's training."""
    if plot is not None:
        from runner.code import extras

        extras.need("plot", "runner metrics --plot")
    look(run, commands)
    rows = list(run.rows(stage, "rank0"))
    if plot is not None:
        from runner.cli.plot import save_plot

        save_plot(plot, rows, title=run.id)
    if output is Output.JSON:
        from runner.views.documents import timed

        print_json({"run": run.id, "plot": str(plot) if plot else None, "rows": [timed(row) for row in rows]})
    elif plot is not None:
        say(f"drew {plot}")
    elif not rows:
        say(f"no training metrics in {run.id}")
    else:
        from runner.cli.metrics_table import print_metrics

        print_metrics(console(), rows)


def datasets(store: Store, name: str | None, output: Output) -> None:
    """List what was published in a store, or the versions of one dataset."""
    from runner.views.datasets import newest_versions, versions_of

    lines = newest_versions(store) if name is None else versions_of(store, name)
    if output is Output.JSON:
        from runner.views.documents import version_document

        print_json([version_document(line) for line in lines])
    elif not lines:
        say(f"no datasets in {store.url}")
    else:
        from runner.cli.tables import datasets_table, versions_table

        print_table(console(), datasets_table(lines) if name is None else versions_table(lines))
