"""What is said when a run has ended, and by `status` at any time: stages, counts, metrics, results, what to do next."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.cli.console import Commands, place, print_table
from runner.cli.tables import plain_table, state_text
from runner.record import RunState
from runner.record.entries import StageResult
from runner.views import units
from runner.views.progress import fit, outcome
from runner.views.run import RunSeen, StageSeen


def print_run(console: Console, seen: RunSeen) -> None:
    """What `status` and the end of an attached run show of every run; errors and advice come after it."""
    head = Text.assemble((seen.id, "bold"), " ", state_text(str(seen.state)))
    head.append(f" {'in' if seen.ended else 'for'} {units.seconds(seen.seconds)}")
    head.append(f"  on {seen.cluster}, {units.moment(seen.submitted, seen.at)}", "dim")
    console.print(head, soft_wrap=True)
    print_table(console, _stages(seen, console.width))
    for line in _facts(seen):
        console.print(line, soft_wrap=True)


def print_commands(console: Console, lines: Iterable[str]) -> None:
    """Print commands to type."""
    for words in lines:
        console.print(Text(f"  {words}", "cyan"), soft_wrap=True)


def _stages(seen: RunSeen, width: int) -> Table:
    table = plain_table("stage", "state", "time", "outcome", right=["time"])
    room = width - max((len(stage.name) for stage in seen.stages), default=0) - len("  running  12 m 34 s  ")
    for stage in seen.stages:
        took = units.seconds(stage.seconds) if stage.seconds is not None else ""
        words = fit(stage.progress.parts(seen.at), room) if stage.progress else " · ".join(outcome(stage.result))
        table.add_row(Text(stage.name), state_text(stage.state), took, Text(words))
    return table


# -- facts -----------------------------------------------------------------------------------------------------------


def _facts(seen: RunSeen) -> list[Text]:
    """Lines of stage, label and words, the first two in columns."""
    facts = [(stage.name, label, words) for stage in seen.stages for label, words in _of_stage(stage)]
    facts.append(("bundle", "", place(seen.bundle)))
    stages, labels = (max(len(fact[column]) for fact in facts) for column in (0, 1))
    lines, before = [], ""
    for stage, label, words in facts:
        shown = stage if stage != before else ""
        lines.append(Text.assemble((f"{shown:{stages}}  {label:{labels}}  ", "dim"), words))
        before = stage
    return lines


def _of_stage(stage: StageSeen) -> list[tuple[str, str]]:
    facts = [] if stage.result is None else _of_result(stage.result)
    facts += [("data", f"{place(url)}: {units.things(rows, 'row')}") for url, rows in stage.data.values()]
    if stage.began_from is not None:
        run, step = stage.began_from
        facts.append(("began from", f"{run}, step {units.count(step)}"))
    facts += [("checkpoint", words) for words in _checkpoints(stage)]
    return facts + [("saved", f"{place(stage.artefacts)}/{name}") for name in stage.saved]


def _of_result(result: StageResult) -> list[tuple[str, str]]:
    notes = [("note", note) for note in result.notes]
    if result.rows_in is None:
        return notes
    parts = {"processed": result.processed, "filtered": result.filtered, "quarantined": result.quarantined}
    counts = [f"{units.count(rows or 0)} {name}" for name, rows in parts.items()]
    facts = [("rows", f"{units.count(result.rows_in)} in = {' + '.join(counts)}")]
    if result.tasks_reused and not result.skipped:
        facts.append(("reused", f"{result.tasks_reused} of {result.tasks} tasks, which were done before"))
    return facts + notes


def _checkpoints(stage: StageSeen) -> list[str]:
    """The last one, and the best one if that is another."""
    shown = [each for each in stage.checkpoints if each.best or each.last]
    words = [", ".join(name for name in ("last", "best") if getattr(each, name)) for each in shown]
    return [
        f"{place(each.url)} ({word}, step {units.count(each.step)})" for each, word in zip(shown, words, strict=True)
    ]


# -- what next -------------------------------------------------------------------------------------------------------


def next_commands(seen: RunSeen, commands: Commands) -> list[str]:
    """The commands that help from here."""
    if not seen.state.ended:
        return [commands("logs", seen.id, "-f"), commands("cancel", seen.id)]
    if seen.state is RunState.LOST:
        return [commands("resume", seen.id), commands("cancel", seen.id), commands("logs", seen.id)]
    if seen.state is not RunState.SUCCEEDED:
        return [commands("resume", seen.id), commands("logs", seen.id)]
    if seen.trained:
        return [commands("metrics", seen.id, "--plot", "metrics.png"), commands("logs", seen.id)]
    return [commands("data", "ls"), commands("logs", seen.id)]
