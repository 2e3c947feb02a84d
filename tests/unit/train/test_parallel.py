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

from runner.errors import Cause, StageTimeout, UserCodeError, WorkerLost
from runner.train import peer_words, watchdog
from runner.train.failure import Failure, first_failure
from runner.train.parallel import may_settle, settle_buckets
from runner.train.watchdog import Watchdog

AWAY = Cause.PEER_AWAY


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
    echo = Failure(0, 1.0, UserCodeError("lost connection", rank=0), Cause.PEER_AWAY)
    cause = Failure(2, 3.0, WorkerLost("rank 2 of 3 was killed"), Cause.MACHINE_LOST)
    later = Failure(1, 4.0, UserCodeError("later", rank=1), Cause.USER_ERROR)
    assert first_failure([echo, later, cause]) is cause.error
    assert first_failure([echo]) is echo.error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"), AWAY),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1268, unhandled system error"), AWAY),
        (dist.DistBackendError("a collective was aborted"), AWAY),
        (ConnectionResetError("[Errno 104] Connection reset by peer"), AWAY),
        (RuntimeError("shapes do not match"), None),
        (ValueError("gloo/ is a word of the user's"), None),
    ],
)
def test_what_torch_says_of_a_lost_connection(error: Exception, cause: Cause | None) -> None:
    """The end of another rank is known by torch's classes and words, through what the user's code raised from it."""
    assert peer_words.of_exception(error) is cause
    wrapped = ValueError("the step failed")
    wrapped.__cause__ = error
    assert peer_words.of_exception(wrapped) is cause
