"""Standard streams that may be closed, that cannot show every letter, or whose reader leaves."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

#: What a shell says of a program whose reader has left (128 + SIGPIPE).
READER_LEFT = 141
#: Of a command whose output could not be written.
REFUSED = 1


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
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, _watched(stream, number))


def reader_has_left() -> bool:
    """Whether nobody reads standard output or error any more."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(state & select.POLLERR for _, state in poll.poll(0))


def mute() -> None:
    """Nothing more is printed on a stream that takes nothing any more."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            empty = os.open(os.devnull, os.O_WRONLY)
            os.dup2(empty, number)
            os.close(empty)


def code_of(error: BaseException | None = None) -> int | None:
    """The exit code where a standard stream took not all of what was printed; None where that is not so.

    Of one that refuses it is said what is wrong (the disk that it leads to is full); a reader who has left knows.

    Args:
        error: that a write to it may have raised.
    """
    left = reader_has_left()  # asked first: what cannot be flushed is led elsewhere, where nobody has left
    mute()
    if left and (error is None or isinstance(error, BrokenPipeError)):
        return READER_LEFT
    refused = _Watched.refused
    if refused is None or not (error is None or isinstance(error, OSError)):
        return None
    _Watched.refused = None  # it is said once
    print(f"error: standard output cannot be written: {refused.strerror}", file=sys.stderr, flush=True)
    return REFUSED


class _Watched(io.FileIO):
    """A standard stream that keeps what it was refused with: whoever prints may not hear of it, or not pass it on."""

    refused: OSError | None = None

    def write(self, data: Any) -> Any:
        """Write, and remember what the stream was refused with."""
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                _Watched.refused = error
            raise


def _watched(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    """The same stream, watched; a terminal without Unicode gets '?', not an exception."""
    raw = _Watched(number, "w", closefd=False)
    buffer = raw if isinstance(stream.buffer, io.FileIO) else io.BufferedWriter(raw)  # of `python -u` there is none
    return io.TextIOWrapper(
        buffer, stream.encoding, "replace", line_buffering=stream.line_buffering, write_through=stream.write_through
    )
