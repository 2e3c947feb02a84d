"""The stream itself measured, in several settings, each in a process of its own, beside what bare decoding would give.

A process of its own has its memory for itself, so that what a setting adds can be told, and no setting finds warm what
another has read into it. (What the system keeps of files is warm for all but the first.)
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from runner.data.manifest import Manifest
from runner.data.stream.stream import Stream
from runner.data.survey.rates import Rates, measured
from runner.data.survey.sample import sampled
from runner.data.survey.touched import touch
from runner.errors import DataError, WorkerLost

T = TypeVar("T")
#: Decoded bytes of the sample whose bare decoding is measured.
_SAMPLE_BYTES = 48 << 20


@dataclass(frozen=True)
class Setting:
    """How a stream reads: its decoding threads, whether it shuffles, and as what it gives batches."""

    threads: int
    shuffle: bool = True
    as_: str = "numpy"


@dataclass(frozen=True)
class Result:
    """What a stream did in a setting.

    Args:
        first_s: seconds from its making to its first batch; all else is counted from there on.
        seconds, rows: how long it was read, and how much came.
        bytes_s: decoded bytes a second; `rows_s` rows.
        waiting: the share of the time in which the consumer, who reads every byte, waited for data.
        cpu_s_gb: seconds of processors for 10^9 decoded bytes, the consumer's included.
        peak_bytes: of memory that it added at most.
    """

    setting: Setting
    first_s: float
    seconds: float
    rows: int
    bytes_s: float
    rows_s: float
    waiting: float
    cpu_s_gb: float
    peak_bytes: int


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        manifest: counted, of the columns wanted.
        batch_size: rows.
        threads: each is measured, shuffled; with the most of them the file order too, and Arrow's batches.
        seconds: of each setting.
    """

    manifest: Manifest
    batch_size: int
    threads: Sequence[int]
    seconds: float

    def settings(self, as_: str) -> list[Setting]:
        """In the order in which they are measured; the first is the one that others are compared with."""
        most = max(self.threads)
        found = [Setting(count, True, as_) for count in sorted(set(self.threads), reverse=True)]
        others = [Setting(most, False, as_), *([] if as_ == "arrow" else [Setting(most, True, "arrow")])]
        return [*found, *others]


def limit_of(plan: Plan) -> Rates:
    """How fast a sample is decoded by itself (see `rates`). Raises DataError where it cannot be read."""
    return apart(measured, sampled(plan.manifest, _SAMPLE_BYTES))


def results(plan: Plan, row_bytes: float, say: Callable[[Setting], None] = lambda _: None) -> Iterator[Result]:
    """The settings one after the other.

    Args:
        row_bytes: decoded bytes of a row, by which rates are told.
        say: is called with each setting before it is measured.

    Raises:
        DataError: the data cannot be read.
        WorkerLost: the process of a setting was killed.
    """
    as_ = "numpy" if _fits_arrays(plan) else "arrow"
    for setting in plan.settings(as_):
        say(setting)
        yield _scaled(apart(run, plan, setting), row_bytes)


def _fits_arrays(plan: Plan) -> bool:
    """Whether the first batch can be arrays: null numbers cannot."""
    try:
        apart(run, replace(plan, seconds=0.0), Setting(1))
    except DataError:
        return False
    return True


def _scaled(result: Result, row_bytes: float) -> Result:
    size = max(result.rows * row_bytes, 1.0)
    return replace(result, bytes_s=result.rows_s * row_bytes, cpu_s_gb=result.cpu_s_gb / size * 1e9)


def run(plan: Plan, setting: Setting) -> Result:
    """Read a stream in this process for the time of the plan; `cpu_s_gb` are all seconds, and `bytes_s` is none yet."""
    before = _memory("VmRSS", reset=True)
    size = min(plan.batch_size, plan.manifest.rows)
    began = time.perf_counter()
    with Stream(
        plan.manifest, size, shuffle=setting.shuffle, threads=setting.threads, as_=setting.as_, epochs=None
    ) as stream:
        touch(next(stream))
        start, cpu, waited, rows = time.perf_counter(), time.process_time(), stream.wait_s, 0
        while (now := time.perf_counter()) - start < plan.seconds:
            touch(next(stream))
            rows += size
        waited = stream.wait_s - waited
    spent, took = time.process_time() - cpu, max(now - start, 1e-9)
    peak = max(0, _memory("VmHWM") - before)
    return Result(setting, start - began, took, rows, 0.0, rows / took, min(1.0, waited / took), spent, peak)


def _memory(name: str, reset: bool = False) -> int:
    """Bytes of memory that this process has (VmRSS) or had at most (VmHWM); with `reset` the latter begins anew.

    Where there is no /proc, both are the most that it ever had.
    """
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # proc(5): the peak becomes what it is now
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith(name))
    except (OSError, StopIteration):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most << 10
    return int(line.split()[1]) << 10


# -- processes -------------------------------------------------------------------------------------------------------


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """What a function of a module gives, called in a process of its own that ends with this one.

    Raises:
        WorkerLost: the process was killed. Besides, whatever the function raises.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        done, value = ours.recv()
    except EOFError:
        process.join()
        raise WorkerLost(
            f"the process that measured has ended with {process.exitcode}: it was killed, or the memory is short"
        ) from None
    except BaseException:  # Ctrl-C
        process.kill()
        process.join()
        raise
    finally:
        ours.close()
    process.join()
    if done:
        result: T = value
        return result
    raise value


def _answer(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asked is told, and ends this process
    try:
        answer = True, function(*arguments)
    except Exception as error:  # raised where it was asked for
        answer = False, error
    connection.send(answer)
