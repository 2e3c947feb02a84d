"""Where output goes and how it may look there. Text of the user's never counts as markup."""

from __future__ import annotations

import enum
import errno
import json
import math
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from runner.untrusted.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

#: Characters a line where there is no terminal to ask.
WIDTH = 100


class Output(enum.StrEnum):
    """How to print."""

    TEXT = "text"
    JSON = "json"


class SubmitOutput(enum.StrEnum):
    """How `submit` prints; yaml, with --dry-run: the Kubernetes objects."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def interactive(stream: TextIO) -> bool:
    """Whether a person looks at a terminal that can redraw lines."""
    dumb = os.environ.get("TERM", "") in ("dumb", "unknown") or bool(os.environ.get("CI"))
    return stream.isatty() and not dumb


def console(stream: TextIO | None = None) -> Console:
    """A console on `stream` (standard output by default) without markup, emoji codes and guessed highlights."""
    from rich.console import Console
    from rich.segment import Segment

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            """As any write to a reader that has left; rich would end the process."""
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            """Whatever is printed: text keeps no control characters; those of rich itself are segments of their own."""
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text), style, control)

    stream = stream or sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH
    return Ours(file=stream, markup=False, highlight=False, emoji=False, width=width, soft_wrap=False)


def debugged() -> bool:
    """Whether a debugger runs this program (pdb stops tracing where it has no breakpoint, but stays on the stack)."""
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_stack(None))
    return sys.gettrace() is not None or any(file.endswith("bdb.py") or "pydevd" in file for file in files)


def print_table(console: Console, table: Any) -> None:
    """Print a table; in files and pipes without the spaces that fill its lines."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def place(url: str) -> str:
    """A URL or path; relative where it lies in the current folder."""
    path = Path(url)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else url


def say(words: str, *, err: bool = False, nl: bool = True) -> None:
    """Print words, in which nothing moves the cursor, whoever wrote them; the one way to do so besides a console."""
    typer.echo(visible(words), err=err, nl=nl)


def print_json(document: Any) -> None:
    """The one JSON document of a command with ``-o json``."""
    text = json.dumps(plain(document), indent=2, allow_nan=False)  # ASCII: but for one, controls are written as \\u001b
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """A value as strict JSON can hold it: numbers that it has not are the strings "NaN", "Infinity" and "-Infinity"."""
    if isinstance(value, Mapping):
        return {name if isinstance(name, str) else str(plain(name)): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | int):
        return str(value) if isinstance(value, enum.Enum) else value
    return str(value)


@dataclass(frozen=True)
class Commands:
    """Commands to suggest, as they must be typed.

    Args:
        store: what the user gave with ``--store``.
    """

    store: str | None = None

    def __call__(self, *words: str) -> str:
        """``runner`` and the words, with the store where one was given."""
        chosen = ["--store", self.store] if self.store else []
        return shlex.join(["runner", *words, *chosen])
