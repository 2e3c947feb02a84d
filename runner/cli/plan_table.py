"""The plan as a table: what each stage does, on what, with which data, and what it adds."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from runner.cli.console import place, print_table
from runner.cli.tables import plain_table
from runner.plan.plan import DataLine, Plan, StagePlan
from runner.views import units

_ACTIONS = {"run": ("run", "cyan"), "skip": ("skip", "green"), "decide": ("run*", "cyan")}


def print_plan(console: Console, plan: Plan, inline: bool = False) -> None:
    """Print the plan; `inline`: everything happens in this process."""
    turn = "".join(f", {what} {name}" for what, name in (("queue", plan.queue), ("priority", plan.priority)) if name)
    console.print(Text.assemble(("plan ", "bold"), plan.job, f" on {plan.cluster}{turn}, store ", place(plan.store)))
    prices = [stage.price_per_hour for stage in plan.stages]
    machines = not plan.one_leg
    priced = ["price"] if any(price is not None for price in prices) else []
    table = plain_table("stage", "does", "on", "reads", "writes", *priced)
    for stage in plan.stages:
        action, style = _ACTIONS[stage.action]
        cells = [
            Text(stage.name),
            Text(action, style),
            Text("this process" if inline else _where(stage, machines)),
            _reads(stage),
            _writes(stage),
        ]
        if priced:
            price = stage.price_per_hour
            cells.append(Text("" if price is None else f"{price:,.2f} {plan.currency}/h"))
        table.add_row(*cells)
    print_table(console, table)
    for note in _notes(plan):
        console.print(Text(note, "dim"))
    if plan.one_machine and not inline:
        for note in _crowded(plan):
            console.print(Text(note, "yellow"))


def _where(stage: StagePlan, machines: bool) -> str:
    what = "worker" if stage.kind == "prep" else "rank"
    where = f"{_range(stage.fewest_workers, stage.workers, what)}, {stage.group}"
    where = f"{where}, {_range(stage.fewest_machines, stage.machines, 'machine')}" if machines else where
    if stage.data_group is None:
        return where
    beside = f"{units.things(stage.data_workers, 'data worker')}, {stage.data_group}"
    return f"{where}\n{beside}, {units.things(stage.data_machines, 'machine')}" if machines else f"{where}\n{beside}"


def _range(fewest: int, most: int, what: str) -> str:
    """'3 ranks', or '1 to 8 workers'."""
    return units.things(most, what) if fewest == most else f"{fewest} to {units.things(most, what)}"


def _reads(stage: StagePlan) -> Text:
    return Text("\n".join(_data(line) for line in stage.inputs))


def _writes(stage: StagePlan) -> Text:
    lines = [_data(line) for line in stage.outputs]
    if stage.storage_added and stage.action != "skip":
        lines.append(f"about {units.size(stage.storage_added)}")
    return Text("\n".join(lines))


def _data(line: DataLine) -> str:
    if line.state != "ready":
        return line.name
    facts = [
        units.things(line.rows, "row") if line.rows is not None else "",
        units.things(line.files, "file") if line.files is not None and line.rows is None else "",
        units.size(line.bytes) if line.bytes is not None else "",
    ]
    return f"{line.name}: " + ", ".join(filter(None, facts))


def _more(stage: StagePlan) -> str:
    return f" (and {len(stage.why) - 1} more: runner why-run {stage.name})" if len(stage.why) > 1 else ""


def _notes(plan: Plan) -> list[str]:
    actions = {stage.action for stage in plan.stages}
    notes = [f"{stage.name}: {stage.why[0]}{_more(stage)}" for stage in plan.stages if stage.why]
    if "skip" in actions:
        notes.append("skip: the result exists in the store, from the same code, config and input.")
    if "decide" in actions:
        notes.append("run*: skipped after all, if its input, made first, is data that was processed before.")
    return notes


def _crowded(plan: Plan) -> list[str]:
    from runner.backends.local.check import crowded
    from runner.worker.processes import cores

    return [
        f"{stage.name}: {units.things(stage.workers, 'rank')}, each a process, share the "
        f"{units.things(cores(), 'core')} and the memory of this machine"
        for stage in crowded(plan)
    ]
