"""What is said when a run has ended, and by `status` at any time: stages, counts, metrics, results, what to do next."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.cli.console import Commands, place, print_table
from runner.cli.tables import plain_table, state_text
from runner.client.run import Run
from runner.record import kept
from runner.record.history import RunState, StageView, View
from runner.untrusted.names import ARTEFACT
from runner.views import units
from runner.views.now import progress_now
from runner.views.progress import fit, outcome


def print_run(console: Console, run: Run, view: View) -> None:
    """What `status` and the end of an attached run show of every run; errors and advice come after it."""
    spec = run.spec()
    now = time.time()
    head = Text.assemble((run.id, "bold"), " ", state_text(str(view.state)))
    head.append(f" {'in' if view.state.ended else 'for'} {units.seconds(view.seconds(now))}")
    head.append(f"  on {spec['cluster_name']}, {units.moment(view.created, now)}", "dim")
    console.print(head, soft_wrap=True)
    print_table(console, _stages(run, view, now, console.width))
    for line in _facts(run, view):
        console.print(line, soft_wrap=True)


def print_commands(console: Console, lines: Iterable[str]) -> None:
    """Print commands to type."""
    for words in lines:
        console.print(Text(f"  {words}", "cyan"), soft_wrap=True)


def _stages(run: Run, view: View, now: float, width: int) -> Table:
    table = plain_table("stage", "state", "time", "outcome", right=["time"])
    room = width - max(map(len, view.stages), default=0) - len("  running  12 m 34 s  ")
    for stage in view.stages.values():
        took = units.seconds((stage.ended or now) - stage.started) if stage.started else ""
        if stage.state == "running":
            words = fit(progress_now(run, stage).parts(now), room)
        else:
            words = " · ".join(outcome(stage))
        table.add_row(Text(stage.name), state_text(stage.state), took, Text(words))
    return table


# -- facts -----------------------------------------------------------------------------------------------------------


def _facts(run: Run, view: View) -> list[Text]:
    """Lines of stage, label and words, the first two in columns."""
    facts = [
        (stage.name, label, words) for stage in view.stages.values() for label, words in _of_stage(run, view, stage)
    ]
    facts.append(("bundle", "", place(run.bundle.store.url)))
    stages, labels = (max(len(fact[column]) for fact in facts) for column in (0, 1))
    lines, before = [], ""
    for stage, label, words in facts:
        shown = stage if stage != before else ""
        lines.append(Text.assemble((f"{shown:{stages}}  {label:{labels}}  ", "dim"), words))
        before = stage
    return lines


def _of_stage(run: Run, view: View, stage: StageView) -> list[tuple[str, str]]:
    result = stage.result
    facts: list[tuple[str, str]] = []
    if "rows_in" in result:
        counts = [f"{units.count(result.get(name) or 0)} {name}" for name in ("processed", "filtered", "quarantined")]
        facts.append(("rows", f"{units.count(result['rows_in'] or 0)} in = {' + '.join(counts)}"))
        if result.get("tasks_reused") and not result.get("skipped"):
            of = f"{result['tasks_reused']} of {result.get('tasks')}"
            facts.append(("reused", f"{of} tasks, which were done before"))
        facts += [("note", note) for note in result.get("notes", ())]
    written = zip(result.get("outputs", {}), result.get("rows_out", {}).values(), strict=False)
    for name, rows in written:
        facts.append(
            (
                "data",
                f"{place(run.bundle.root.url)}/{result.get('places', {}).get(name, name)}: {units.things(rows, 'row')}",
            )
        )
    began = ((run.spec().get("start_from") or {}).get("stages") or {}).get(stage.name)
    if began:
        facts.append(("began from", f"{began['run']}, step {units.count(began['step'])}"))
    facts += [("checkpoint", words) for words in _checkpoints(run, view, stage)]
    folder = f"{place(run.bundle.store.url)}/{run.bundle.artefacts(stage.name)}"
    return facts + [("saved", f"{folder}/{name}") for name in artefacts(run, stage)]


def _checkpoints(run: Run, view: View, stage: StageView) -> list[str]:
    """The last one, and the best one if that is another."""
    shown = [c for c in kept.checkpoints(run.bundle, view, stage.name) if c.exists and (c.best or c.last)]
    words = [", ".join(name for name in ("last", "best") if getattr(c, name)) for c in shown]
    places = [f"{place(run.bundle.store.url)}/{c.key}" for c in shown]
    steps = [units.count(c.step) for c in shown]
    return [f"{p} ({w}, step {s})" for p, w, s in zip(places, words, steps, strict=True)]


def artefacts(run: Run, stage: StageView) -> list[str]:
    """The names of what `ctx.save` kept."""
    return [name for name in run.bundle.store.list(run.bundle.artefacts(stage.name)) if ARTEFACT.fits(name)]


# -- what next -------------------------------------------------------------------------------------------------------


def next_commands(run: Run, view: View, commands: Commands) -> list[str]:
    """The commands that help from here."""
    if not view.state.ended:
        return [commands("logs", run.id, "-f"), commands("cancel", run.id)]
    if view.state is RunState.LOST:
        return [commands("resume", run.id), commands("cancel", run.id), commands("logs", run.id)]
    if view.state is not RunState.SUCCEEDED:
        return [commands("resume", run.id), commands("logs", run.id)]
    if any("metrics" in stage.result for stage in view.stages.values()):
        return [commands("metrics", run.id, "--plot", "metrics.png"), commands("logs", run.id)]
    return [commands("data", "ls"), commands("logs", run.id)]
