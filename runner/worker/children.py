"""What a process that calls the user's functions is like to children that those start."""

from __future__ import annotations

import multiprocessing
from types import ModuleType

from runner.modules import set_main


def make_ready() -> None:
    """The start method is Python's own (on Linux up to Python 3.13 `fork`, the quick one), on every backend, and the
    user may set another; the program that started this process is not imported by its children.
    """
    multiprocessing.set_start_method(None, force=True)  # what our fork server handed on
    set_main(ModuleType("__main__"))
