"""Tracebacks of the user's code, without the frames of runner and of the import machinery; and whose an error is."""

from __future__ import annotations

import contextlib
import linecache
import os
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

from runner.code_root import code_root
from runner.errors import RunnerError, UserCodeError, internal

_PACKAGE = Path(__file__).resolve().parent
_STDLIB = sysconfig.get_path("stdlib") + os.sep

# -- whose error it is -----------------------------------------------------------------------------------------------


def as_users(error: BaseException, *, rank: int | None = None) -> RunnerError:
    """What came out of the user's function: an error of ours as it is, anything else as UserCodeError."""
    if isinstance(error, RunnerError):
        return error
    line = user_line(error)
    if isinstance(error, SystemExit):
        place = _last_user_frame(error.__traceback__)
        line = f"the function called sys.exit({error.code!r})" + (f" ({place})" if place else "")
    return UserCodeError(line, trace=user_trace(error), rank=rank)


def as_ours(error: BaseException) -> RunnerError:
    """What came out of a part of ours: the user's where their code is on its way, otherwise a bug of runner."""
    if isinstance(error, RunnerError):
        return error
    return as_users(error) if _last_user_frame(error.__traceback__) else internal(error)


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
    return filename.startswith((str(_PACKAGE) + os.sep, "<frozen "))


def user_line(error: BaseException) -> str:
    """One line: the exception and the user's place that raised it, such as ``ValueError: x (jobs/a.py:12 in f)``."""
    shown = traceback.TracebackException.from_exception(error)
    shown.__notes__ = None
    text = list(shown.format_exception_only())[-1].strip()
    frame = _last_user_frame(error.__traceback__)
    return f"{text} ({frame})" if frame else text


def _last_user_frame(trace: TracebackType | None) -> str:
    found = ""
    for frame in traceback.extract_tb(trace):
        if _is_ours(frame.filename) or "site-packages" in frame.filename or frame.filename.startswith(_STDLIB):
            continue
        found = f"{_shown_path(frame.filename)}:{frame.lineno} in {frame.name}"
    return found


def user_place(frame: FrameType | None) -> str:
    """The user's innermost place among a thread's frames, such as ``jobs/a.py:12 (loss.backward())``; "" if none is."""
    while frame is not None:
        path, number = frame.f_code.co_filename, frame.f_lineno
        if not (_is_ours(path) or "site-packages" in path or path.startswith(_STDLIB)):
            text = linecache.getline(path, number).strip()
            return f"{_shown_path(path)}:{number}" + (f" ({text})" if text else "")
        frame = frame.f_back
    return ""
