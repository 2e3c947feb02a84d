"""Where output goes and how it may look there. Text of the user's never counts as markup."""

from __future__ import annotations

import enum
import json
import os
import shlex
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

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

    stream = stream or sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width, soft_wrap=False)


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


def print_json(document: Any) -> None:
    """The one JSON document of a command with ``-o json``."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
    sys.stdout.flush()


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
