"""Children that a function of the user's forks are its own affair, and never a second worker or rank."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from runner.worker.children import ended_on_return
from runner.worker.pool.child import answer


def _exit_of(do: Callable[[], None]) -> int:
    """The exit code of a forked child that comes back to us with what `do` does."""
    child = 0
    with ended_on_return():
        child = os.fork()
        if child == 0:
            do()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _raise() -> None:
    raise ValueError("in the child")


def test_a_forked_child_that_comes_back_ends_like_a_program(capfd: pytest.CaptureFixture[str]) -> None:
    """By its return with 0, by an exception with 1 and its traceback, by sys.exit with its code."""
    assert _exit_of(lambda: print("told", flush=True)) == 0
    assert _exit_of(_raise) == 1
    assert [_exit_of(lambda code=code: sys.exit(code)) for code in (None, 0, 7, "words")] == [0, 0, 7, 1]  # type: ignore[misc]
    out, err = capfd.readouterr()
    assert out == "told\n"
    assert "ValueError: in the child" in err
    assert "words" in err


def test_what_the_function_itself_does_passes() -> None:
    """An exception of this very process goes on as it is."""
    with pytest.raises(ValueError, match="in the child"), ended_on_return():
        _raise()


def test_a_worker_answers_once() -> None:
    """An item whose function forks has one result, that of the worker."""
    reader, writer = os.pipe()
    os.write(writer, answer(lambda item: bool(os.fork()), 1))
    os.wait()
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == answer(lambda item: True, 1)
