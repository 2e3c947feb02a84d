"""What `checkpoints`, `get`, `rm` and `gc` of a store print and ask."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import typer
from rich.text import Text

from runner.cli.console import Output, console, interactive, print_json, print_table, say
from runner.cli.tables import plain_table
from runner.client import leftovers
from runner.client.leftovers import Target
from runner.client.run import Run
from runner.errors import InputError, RunnerError
from runner.record import kept
from runner.store import Store, whole_copy
from runner.views import units


def checkpoints(run: Run, stage: str | None, output: Output) -> None:
    """List the checkpoints of a run."""
    found = run.checkpoints(stage)
    if output is Output.JSON:
        print_json([dataclasses.asdict(each) for each in found])
        return
    if not found:
        say(f"no checkpoints in {run.id}")
        return
    names = list(dict.fromkeys(name for each in found for name in each.metrics))
    table = plain_table("stage", "step", "", *names, "size", "path", right=["step", "size", *names])
    for each in found:
        words = ", ".join(word for word, is_so in (("best", each.best), ("last", each.last)) if is_so)
        values = [f"{each.metrics[name]:.4g}" if name in each.metrics else "" for name in names]
        size = units.size(each.bytes) if each.bytes is not None else "gone"
        table.add_row(
            Text(each.stage), units.count(each.step), words, *values, size, Text(each.key if each.exists else "", "dim")
        )
    print_table(console(), table)


def get(run: Run, path: str, dest: Path, stage: str | None, output: Output) -> None:
    """Copy out of a run's bundle."""
    if path in (kept.BEST, kept.LAST) or path.isdigit():
        chosen = kept.choose(run.checkpoints(stage), path, run.id)
        target = whole_copy.place(dest, f"{run.id}-{chosen.stage}-{chosen.step}")
        kept.fetch(run.bundle, chosen, target)
        written = sorted(str(file) for file in target.iterdir())
    elif path == "logs":
        written = _logs(run, stage, whole_copy.place(dest, f"{run.id}-logs"))
    else:
        written = kept.copy(run.bundle, path, dest)
    if output is Output.JSON:
        print_json({"run": run.id, "files": written})
    else:
        say("\n".join(written) or "nothing was printed", err=not written)


def _logs(run: Run, stage: str | None, target: Path) -> list[str]:
    """A file for each process: what it has printed, whole."""
    lines: dict[str, list[str]] = {}
    for line in run.log_lines(stage):
        lines.setdefault(f"{line.label.replace('/', '-')}.log", []).append(line.text + "\n")
    with whole_copy.whole(target) as part:
        if lines:
            part.mkdir()
        for name, text in lines.items():
            (part / name).write_text("".join(text), encoding="utf-8")
    return [str(target / name) for name in lines]


def rm(store: Store, names: list[str], output: Output, *, yes: bool) -> None:
    """Remove what is named, if the user agrees."""
    found = leftovers.targets(store, names)
    if not yes:
        _show(found, sys.stderr if output is Output.JSON else sys.stdout)
        if output is Output.JSON or not interactive(sys.stdin):
            raise InputError("nobody can be asked here", allowed="--yes", todo="add --yes to remove what is shown")
        if not typer.confirm("remove?"):
            raise typer.Exit(1)
    for target in found:
        leftovers.remove(store, target)
        if output is Output.TEXT:
            say(f"removed {target.kind} {target.name}, {units.size(target.bytes)}")
    if output is Output.JSON:
        print_json({"removed": [_document(target) for target in found]})


def gc(store: Store, output: Output, *, yes: bool, older: str | None) -> None:
    """Show what nobody needs in a store, and remove it if told so; lost runs are ended."""
    from runner.record.finding import moment

    now = time.time()
    older_s = leftovers.OLD_S if older is None else now - moment(older, now)
    found, notes = leftovers.leftovers(store, now, older_s)
    if output is Output.TEXT:
        _show(found, sys.stdout)
    done = found
    if yes:
        done, kept = _removed(store, found)
        notes += kept
    total = units.size(sum(target.bytes for target in done))
    if output is Output.JSON:
        print_json({"removed": yes, "found": [_document(target) for target in done], "notes": notes})
        return
    for words in notes:
        say(words, err=True)
    if not found:
        say(f"nothing to remove in {store.url}")
    else:
        say(f"removed {total}" if yes else f"{total}; nothing was removed: add --yes to do it")


def _removed(store: Store, found: list[Target]) -> tuple[list[Target], list[str]]:
    """Remove one after the other. What cannot go does not hold back the rest: it is told in words."""
    done, kept = [], []
    for target in found:
        try:
            leftovers.remove(store, target)
            done.append(target)
        except RunnerError as error:
            kept.append(f"{target.kind} {target.name} is left: {error}")
    return done, kept


def _show(found: list[Target], stream: object) -> None:
    table = plain_table("what", "name", "size", "", right=["size"])
    for target in found:
        table.add_row(target.kind, Text(target.name), units.size(target.bytes), Text(target.why, "dim"))
    if found:
        print_table(console(stream), table)  # type: ignore[arg-type]


def _document(target: Target) -> dict[str, object]:
    return {name: getattr(target, name) for name in ("kind", "name", "bytes", "why")}
