"""One rank: threads, seeds and process group around the user's function. The same on every gang."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from runner.code import references
from runner.errors import RunFailed, SpecError
from runner.spec import Train
from runner.train import accelerator, kept_group
from runner.train.context import TrainContext
from runner.train.peers import COLLECTIVE_TIMEOUT_S, CPU_BACKEND, GPU_BACKEND, Peers
from runner.train.pipe_store import PipeStore
from runner.train.place import Place
from runner.train.randomness import seed_all
from runner.worker import children
from runner.worker.scope import Scope


def run_rank(place: Place, stage: Train, scope: Scope, argument: dict[str, Any]) -> dict[str, Any]:
    """Call the stage's function with a context and return the result of the stage.

    Args:
        argument: "checkpoints": the published checkpoints of the stage, newest first; "start": that of another run,
            with which it begins where it has none of its own.

    Raises:
        whatever the user's function raises, unchanged.
    """
    with (
        _threads(place.threads, keep=scope.inline),
        _process_group(place),
        contextlib.closing(_peers(place)) as peers,
    ):
        seed_all(stage.seed)
        if place.device.type == "cuda":
            _compare(place, peers)
        with references.ours():
            context = TrainContext(place, stage, scope, argument, peers)
        with contextlib.closing(context):
            with kept_group.kept(), children.ended_on_return():
                returned = references.resolve(stage.fn)(context, scope.config)
            with references.ours():
                _check_ran(stage, returned)
                result = context.finish()
        peers.leave()
        return result


def _check_ran(stage: Train, returned: Any) -> None:
    """Raise SpecError for what has run nothing yet: a generator, a coroutine. Most are refused at submission."""
    if inspect.isgenerator(returned) or inspect.isasyncgen(returned) or inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()  # or Python warns of it besides
        raise SpecError(
            f"the function returned a {type(returned).__name__}, of whose body nothing has run",
            allowed="a function that trains when it is called",
            todo="take out `yield` or `async`",
            where=f"stage '{stage.name}'",
        )


def _peers(place: Place) -> Peers:
    """The other ranks, by the store of the process group, whoever has set that up."""
    if place.world_size == 1:
        return Peers(place.rank, 1)
    on_gpu = place.device.type == "cuda"
    if place.store is not None:
        return Peers(place.rank, place.world_size, PipeStore(place.store.pipes), on_gpu)
    store = dist.distributed_c10d._get_default_store()
    return Peers(place.rank, place.world_size, store, on_gpu, place.secret)


def _compare(place: Place, peers: Peers) -> None:
    """Ranks on GPUs tell each other what they have, before the first collective on a GPU; rank 0 writes it down.

    Raises:
        RunFailed: they do not fit together.
    """

    def compare(ranks: list[Any]) -> None:
        print(accelerator.summary(ranks), flush=True)
        found = accelerator.disagreements(ranks)
        if found:
            raise RunFailed(f"{'; '.join(found)}. Give all machines of the stage one image")

    peers.meet("the start, with its accelerators", accelerator.look(place.device.index), compare)


@contextlib.contextmanager
def _threads(number: int, keep: bool) -> Iterator[None]:
    """The user's own process keeps its number; a rank of ours has a known one."""
    if not keep:
        os.environ["OMP_NUM_THREADS"] = str(number)
        torch.set_num_threads(number)
    yield


@contextlib.contextmanager
def _process_group(place: Place) -> Iterator[None]:
    """A process group while the function runs. After an error it is left alone: its peers may be gone."""
    if place.device.type == "cuda":
        torch.cuda.set_device(place.device)
    if place.store is None:
        yield
        return
    dist.init_process_group(
        GPU_BACKEND if place.device.type == "cuda" else CPU_BACKEND,
        store=place.store.connect(place),
        rank=place.rank,
        world_size=place.world_size,
        timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S),
    )
    yield
    dist.destroy_process_group()
