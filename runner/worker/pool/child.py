"""What runs inside a process of the pool: take the function, then items, one after another, and answer."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from runner.code import references
from runner.errors import RunnerError
from runner.worker import children
from runner.worker.forkserver_child import die_with_server


def main(connection: Connection, log: str, threads: int) -> None:
    """Serve until the other end closes.

    Args:
        connection: to the pool.
        log: the file that takes standard output and error.
        threads: that libraries may use for one call.
    """
    die_with_server()
    children.make_ready()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the driver decides
    redirect(log)
    limit_threads(threads)
    function: Callable[[Any], Any] | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            kind, value = pickle.loads(connection.recv_bytes())
            if kind == "program":
                function = pickle.loads(value)
                continue
            assert function is not None
            connection.send_bytes(answer(function, value))


def answer(function: Callable[[Any], Any], item: Any) -> bytes:
    """The pickled outcome: ("result", value), or ("error", exception) with one that can be rebuilt elsewhere."""
    try:
        with children.ended_on_return():
            result = function(item)
        return pickle.dumps(("result", result))
    except Exception as error:
        if not isinstance(error, RunnerError):
            error.add_note("".join(["in the worker: ", *traceback.format_exception(error)]))
        with contextlib.suppress(Exception):  # an exception whose class cannot be pickled: say it in words below
            data = pickle.dumps(("error", error))
            pickle.loads(data)
            return data
        return pickle.dumps(("error", references.as_ours(error)))
    except BaseException as error:  # sys.exit and the like: of the user's, since nobody else would say them here
        return pickle.dumps(("error", references.as_users(error)))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def redirect(log: str) -> None:
    """Send standard output and error of this process, C code included, to the end of a file.

    It is UTF-8 whatever the locale of who submitted: what is printed must not fail for its letters.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def limit_threads(threads: int) -> None:
    """Share the cores: the pool already runs one process per core."""
    import pyarrow

    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    pyarrow.set_cpu_count(threads)
