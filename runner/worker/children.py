"""What a process that calls the user's functions is like to children that those start."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Iterator
from types import ModuleType

from runner.code.modules import set_main
from runner.untrusted import logger


def make_ready() -> None:
    """The start method is Python's own (on Linux up to Python 3.13 `fork`, the quick one), on every backend, and the
    user may set another; the program that started this process is not imported by its children. What runner says
    goes where the function's own lines go.
    """
    multiprocessing.set_start_method(None, force=True)  # what our fork server handed on
    set_main(ModuleType("__main__"))
    logger.configure()


@contextlib.contextmanager
def ended_on_return() -> Iterator[None]:
    """Around a function of the user's: a child that it forks, and that comes back from it, ends there like a program,
    and does not go on as a second worker or rank.
    """
    own = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() == own:
            raise
        _leave(_exit_code(error))
    if os.getpid() != own:
        _leave(0)


def _exit_code(error: BaseException) -> int:
    """As the interpreter has it."""
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        return error.code or 0
    if isinstance(error, SystemExit):
        print(error.code, file=sys.stderr)
    else:
        traceback.print_exception(error)
    return 1


def _leave(code: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # streams that the function has closed
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
