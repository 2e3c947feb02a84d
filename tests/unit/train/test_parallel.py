"""Parts of a rank that need no second one: DDP's buckets, the watchdog, whose error it is."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from runner.errors import StageTimeout, UserCodeError, WorkerLost
from runner.train import watchdog
from runner.train.failure import Failure, first_failure, is_echo
from runner.train.parallel import may_settle, settle_buckets
from runner.train.watchdog import Watchdog


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_settling_the_buckets_leaves_no_trace(group: None) -> None:
    """The discarded backwards change no weight, no buffer, no gradient and no random number, and DDP has rebuilt."""
    torch.set_num_threads(1)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(), torch.nn.Linear(4, 1))
    net[0].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ddp = torch.nn.parallel.DistributedDataParallel(net)
    states = (random.getstate(), str(np.random.get_state()), torch.get_rng_state())
    settle_buckets(ddp)
    assert ddp._has_rebuilt_buckets
    assert ddp.module is net
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (random.getstate(), str(np.random.get_state())) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_settling_the_buckets_keeps_sparse_gradients(group: None) -> None:
    """A sparse embedding has sparse gradients after the buckets were settled, the same as without that."""
    torch.set_num_threads(1)
    found = []
    for settle in (False, True):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Embedding(7, 3, sparse=True), torch.nn.Linear(3, 1))
        ddp = torch.nn.parallel.DistributedDataParallel(net)
        if settle:
            settle_buckets(ddp)
        ddp(torch.tensor([1, 4, 1])).sum().backward()
        found.append([p.grad for p in net.parameters()])
    assert found[1][0].is_sparse
    assert all(torch.equal(a.to_dense(), b.to_dense()) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"bucket_cap_mb": 1, "gradient_as_bucket_view": True}, True),
        ({"static_graph": True}, False),
        ({"static_graph": False, "find_unused_parameters": True}, False),
        ({"mixed_precision": object()}, False),
    ],
)
def test_buckets_are_settled_only_where_ddp_does_not_record_it(options: dict[str, Any], expected: bool) -> None:
    """What DDP would take for the user's own backward is not done beside options that make it matter."""
    assert may_settle(options) is expected


def test_thread_stuck_in_a_call_is_ended_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that does not return to Python within the grace is handed to whoever can end the process."""
    monkeypatch.setattr(watchdog, "GRACE_S", 0.1)
    told: list[str] = []
    ended = threading.Event()

    def end(error: Exception) -> None:
        told.append(str(error))
        ended.set()

    def stuck() -> None:
        with Watchdog("phase 'x'", 0.1, end):
            assert ended.wait(60)

    with pytest.raises(StageTimeout, match="phase 'x'"):
        stuck()
    assert told == ["phase 'x' took longer than its timeout_s=0.1"]


def test_first_cause_wins_over_its_echoes() -> None:
    """Of several failures the earliest cause is told; an echo only where there is no cause."""
    echo = Failure(0, 1.0, UserCodeError("lost connection", rank=0), echo=True)
    cause = Failure(2, 3.0, WorkerLost("rank 2 of 3 was killed"))
    later = Failure(1, 4.0, UserCodeError("later", rank=1))
    assert first_failure([echo, later, cause]) is cause.error
    assert first_failure([echo]) is echo.error


def test_echoes_are_known_through_the_users_wrapping() -> None:
    """A lost connection is seen as one also where the user's code raised something else from it."""
    lost = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    wrapped = ValueError("the step failed")
    wrapped.__cause__ = lost
    assert is_echo(wrapped)
    assert not is_echo(RuntimeError("shapes do not match"))


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            "1 worker(s) were killed due to the node running low on memory. \nMemory on the node (IP: 10.244.0.61, ID: "
            "7f) was 2.86GB used / 3.00GB limit (0.953)\nTop 10 memory users: PID MEM(GB) COMMAND\n"
            "191 0.05 python -c import os; os._exit(0)",
            "out of memory: Ray's monitor ended it. Memory on the node (IP: 10.244.0.61, ID: 7f) was 2.86GB used / "
            "3.00GB limit (0.953)",
        ),
        (
            "The actor died unexpectedly before finishing this task.\n  Worker exit type: SYSTEM_ERROR Worker exit "
            "detail: Worker unexpectedly exits with a connection error code 2.",
            "Worker exit type: SYSTEM_ERROR Worker exit "
            "detail: Worker unexpectedly exits with a connection error code 2.",
        ),
        ("no words that are known", "no words that are known"),
    ],
)
def test_how_a_rank_ended_is_told_in_one_line(cause: str, words: str) -> None:
    """What Ray says of it, without its lists of processes and of documentation."""
    from runner.train.gang.ray import _how

    assert _how(cause) == words
