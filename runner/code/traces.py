"""Tracebacks of the user's code, without the frames of runner and of the import machinery; and whose an error is."""

from __future__ import annotations

import contextlib
import linecache
import os
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType

from runner.code import extras
from runner.errors import RunnerError, SpecError, UserCodeError, internal, is_generated, is_tool
from runner.process.code_root import code_root
from runner.process.package import PACKAGE

# -- whose error it is -----------------------------------------------------------------------------------------------


def as_users(error: BaseException, *, rank: int | None = None) -> RunnerError:
    """What came out of the user's function: an error of ours as it is, anything else as UserCodeError."""
    if isinstance(error, RunnerError):
        return _placed(error)
    line = user_line(error)
    if isinstance(error, SystemExit):
        place = _last_user_frame(error.__traceback__)
        line = f"the function called sys.exit({error.code!r})" + (f" ({place})" if place else "")
    return UserCodeError(line, trace=user_trace(error), rank=rank)


def as_ours(error: BaseException) -> RunnerError:
    """What came out of a part of ours: the user's where their code is on its way, otherwise a bug of runner."""
    if isinstance(error, RunnerError):
        return _placed(error)
    return as_users(error) if _last_user_frame(error.__traceback__) else extras.missed(error) or internal(error)


def _placed(error: RunnerError) -> RunnerError:
    """A wrong call, such as of `ctx`, with the user's line that made it; any other error as it is."""
    place = _last_user_frame(error.__traceback__) if isinstance(error, SpecError) else ""
    if isinstance(error, SpecError) and place and place not in error.where:
        error.where = f"{error.where} ({place})" if error.where else place
    return error


@contextlib.contextmanager
def ours() -> Iterator[None]:
    """Around a part of ours that an error of the user's must not be mistaken for. Raises InternalError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RunnerError) or _last_user_frame(error.__traceback__):
            raise
        raise internal(error) from error


# -- tracebacks ------------------------------------------------------------------------------------------------------


def user_trace(error: BaseException) -> str:
    """The traceback of `error` as text, without the frames of runner and of the import machinery."""
    shown = traceback.TracebackException.from_exception(error)
    _strip(shown)
    return "".join(shown.format()).rstrip("\n")


def _strip(shown: traceback.TracebackException) -> None:
    kept = [frame for frame in shown.stack if not _is_ours(frame.filename)]
    for frame in kept:
        _ = frame.line  # read while the file can still be found under its full name
        frame.filename = _shown_path(frame.filename)
    shown.stack = traceback.StackSummary.from_list(kept)
    for inner in (shown.__cause__, shown.__context__):
        if inner is not None:
            _strip(inner)


def _shown_path(filename: str) -> str:
    """A file of the project as the user knows it, not as it lies in a run's scratch folder."""
    root = code_root()
    if root is not None and filename.startswith(f"{root}{os.sep}"):
        return os.path.relpath(filename, root)
    return filename


def _is_ours(filename: str) -> bool:
    return filename.startswith((str(PACKAGE) + os.sep, "<frozen "))


def user_line(error: BaseException) -> str:
    """One line: the exception and the user's place that raised it, such as ``ValueError: x (jobs/a.py:12 in f)``.

    Of an import of what an extra of runner brings it says what to type, too.
    """
    shown = traceback.TracebackException.from_exception(error)
    shown.__notes__ = None
    text = list(shown.format_exception_only())[-1].strip()
    frame = _last_user_frame(error.__traceback__)
    extra = extras.extra_for(error)
    more = "; ".join(filter(None, [frame, extras.command(extra) if extra else ""]))
    return f"{text} ({more})" if more else text


def _last_user_frame(trace: TracebackType | None) -> str:
    """The user's innermost place; one in a file, if there is one."""
    found = _innermost(reversed(list(traceback.walk_tb(trace))))
    return f"{_shown_path(found[0].f_code.co_filename)}:{found[1]} in {found[0].f_code.co_name}" if found else ""


def raised_at(error: BaseException) -> str:
    """The line of the user's that raised an error, such as ``jobs/a.py:12``; "" if none of theirs did."""
    return _last_user_frame(error.__traceback__).rpartition(" in ")[0]


def user_place(frame: FrameType | None) -> str:
    """The user's innermost place among a thread's frames, such as ``jobs/a.py:12 (loss.backward())``; "" if none is."""
    found = _innermost(traceback.walk_stack(frame)) if frame is not None else None
    if found is None:
        return ""
    path, number = found[0].f_code.co_filename, found[1]
    text = linecache.getline(path, number).strip()
    return f"{_shown_path(path)}:{number}" + (f" ({text})" if text else "")


def _innermost(frames: Iterable[tuple[FrameType, int]]) -> tuple[FrameType, int] | None:
    """The first of the user's frames, and its line; what was generated for code of theirs only where no other is."""
    generated = None
    for frame, number in frames:
        if not is_generated(frame.f_code.co_filename):
            if not is_tool(frame.f_code.co_filename):
                return frame, number
        elif generated is None and _is_for_user(frame):
            generated = frame, number
    return generated


def _is_for_user(frame: FrameType) -> bool:
    """Whether code that is in no file belongs to a module of the user's, or is what was given to ``python -c``."""
    file = frame.f_globals.get("__file__")
    return frame.f_globals.get("__name__") == "__main__" if file is None else not is_tool(file)
