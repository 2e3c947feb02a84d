"""Standard streams that may be closed, that cannot show every letter, or whose reader leaves."""

from __future__ import annotations

import io
import os
import select
import sys

#: What a shell says of a program whose reader has left (128 + SIGPIPE).
READER_LEFT = 141


def make_whole() -> None:
    """A closed standard stream is an empty one. Otherwise the next file that is opened would take its place."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # the lowest number that is free
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets '?', not an exception


def reader_has_left() -> bool:
    """Whether nobody reads standard output or error any more."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(state & select.POLLERR for _, state in poll.poll(0))


def mute() -> None:
    """Nothing more is printed on a stream whose reader has left."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            empty = os.open(os.devnull, os.O_WRONLY)
            os.dup2(empty, number)
            os.close(empty)
