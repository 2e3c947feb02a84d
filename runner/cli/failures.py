"""How errors look: the user's own traceback first, then one line that says where, then what to type."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from runner.cli.console import Commands
from runner.errors import REPORT, InternalError, RunnerError
from runner.views.run import RunSeen


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


def print_failure(console: Console, seen: RunSeen, commands: Commands) -> None:
    """Why a run failed, or that it was lost."""
    failure = seen.failure
    assert failure is not None
    if failure.trace:
        console.print(Text(failure.trace), soft_wrap=True)
    stage, rank = failure.stage, failure.rank
    place = ", ".join(filter(None, [f"stage {stage}" if stage else "", f"rank {rank}" if rank is not None else ""]))
    head, _, rest = failure.message.partition("\n")
    what = "lost" if failure.lost else "failed"
    where = f"{what} in {place}: " if place else f"{what}: "
    console.print(Text.assemble((where, "bold red"), (head, "red")), soft_wrap=True)
    if rest:
        console.print(Text(rest), soft_wrap=True)
    if failure.bug:
        console.print(Text(REPORT, "bold red"), soft_wrap=True)
    chosen = [*(["--stage", stage] if stage else []), *(["--rank", str(rank)] if rank is not None else [])]
    for words in (commands("logs", seen.id, *chosen), commands("resume", seen.id)):
        console.print(Text(f"  {words}", "cyan"), soft_wrap=True)
