"""How errors look: the user's own traceback first, then one line that says where, then what to type."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

from runner.cli.console import Commands
from runner.client.run import Run
from runner.errors import REPORT, InternalError, RunnerError
from runner.record.failures import is_a
from runner.record.history import RunState, View


def print_error(console: Console, error: RunnerError) -> None:
    """What is wrong, in red, then what is allowed and what to do; of a bug of ours where it was."""
    if isinstance(error, InternalError):
        console.print(Text(error.trace or str(error)), soft_wrap=True)
        console.print(Text(REPORT, "bold red"), soft_wrap=True)
        return
    head, _, rest = str(error).partition("\n")
    console.print(Text.assemble(("error: ", "bold red"), (head, "red")), soft_wrap=True)
    if rest:
        console.print(Text(rest), soft_wrap=True)


def print_failure(console: Console, run: Run, view: View, commands: Commands) -> None:
    """Why a run failed, or that it was lost; `view` has its error, perhaps with its stage."""
    assert view.error is not None
    error: dict[str, Any] = view.error
    if error.get("trace"):
        # The code lay in a temporary folder while it ran; the user knows its files by their place in the project.
        trace = re.sub(rf'"[^"\n]*/{re.escape(run.id)}/code/', '"', error["trace"].rstrip("\n"))
        console.print(Text(trace), soft_wrap=True)
    stage, rank = error.get("stage"), error.get("rank")
    place = ", ".join(filter(None, [f"stage {stage}" if stage else "", f"rank {rank}" if rank is not None else ""]))
    head, _, rest = str(error.get("message", "the run failed")).partition("\n")
    what = "lost" if view.state is RunState.LOST else "failed"
    where = f"{what} in {place}: " if place else f"{what}: "
    console.print(Text.assemble((where, "bold red"), (head, "red")), soft_wrap=True)
    if rest:
        console.print(Text(rest), soft_wrap=True)
    if is_a(error, InternalError):
        console.print(Text(REPORT, "bold red"), soft_wrap=True)
    chosen = [*(["--stage", stage] if stage else []), *(["--rank", str(rank)] if rank is not None else [])]
    for words in (commands("logs", run.id, *chosen), commands("resume", run.id)):
        console.print(Text(f"  {words}", "cyan"), soft_wrap=True)
