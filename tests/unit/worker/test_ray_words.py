"""What Ray says of how a process ended, as a cause, an error and one line."""

from __future__ import annotations

import pytest

from runner.errors import Cause, OutOfMemory, WorkerAway, WorkerLost
from runner.worker import ray_words


@pytest.mark.parametrize(
    ("words", "kind", "cause", "told"),
    [
        (
            "1 worker(s) were killed due to the node running low on memory. \nMemory on the node (IP: 10.244.0.61, ID: "
            "7f) was 2.86GB used / 3.00GB limit (0.953)\nTop 10 memory users: PID MEM(GB) COMMAND\n"
            "191 0.05 python -c import os; os._exit(0)",
            OutOfMemory,
            Cause.OUT_OF_MEMORY,
            "out of memory: Ray's monitor ended it. Memory on the node (IP: 10.244.0.61, ID: 7f) was 2.86GB used / "
            "3.00GB limit (0.953)",
        ),
        (
            "The actor died unexpectedly before finishing this task.\n  Worker exit type: SYSTEM_ERROR Worker exit "
            "detail: Worker unexpectedly exits with a connection error code 2.",
            WorkerLost,
            Cause.MACHINE_LOST,
            "Worker exit type: SYSTEM_ERROR Worker exit "
            "detail: Worker unexpectedly exits with a connection error code 2.",
        ),
        (
            "The actor 7f is unavailable: The actor is temporarily unavailable",
            WorkerAway,
            Cause.PEER_AWAY,
            "The actor 7f is unavailable: The actor is temporarily unavailable",
        ),
        ("no words that\nare known", WorkerLost, Cause.MACHINE_LOST, "no words that are known"),
    ],
)
def test_how_a_process_ended(words: str, kind: type[WorkerLost], cause: Cause, told: str) -> None:
    """Its class and cause decide what is done; what is told is one line, without Ray's lists of processes."""
    error = ray_words.lost("rank 0 of 2 ended without a result", words)
    assert (type(error), error.cause) == (kind, cause)
    assert str(error) == f"rank 0 of 2 ended without a result: {told}"
