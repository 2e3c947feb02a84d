"""The random states of a rank: Python's, numpy's, torch's on the CPU and on its GPU."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from runner.train.checkpoint.writer import RANDOM
from runner.train.hooks import StepHook

if TYPE_CHECKING:
    from runner.train.checkpoint.published import Loaded
    from runner.train.loop import Loop


def seed_all(seed: int) -> None:
    """Seed every generator. With the same seed on every rank, every rank builds the same model."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rank_seed(seed: int, rank: int) -> int:
    """A seed of its own for each rank, so that dropout and noise differ between ranks."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{rank}".encode()).digest()[:8], "little") >> 1


def get_state(device: torch.device) -> dict[str, Any]:
    """All states as values that `torch.load(weights_only=True)` reads."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), _tensor(keys), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _tensor(keys: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(keys).astype(np.int64))


def set_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `get_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


class Randomness(StepHook):
    """The random states of one rank around the user's function.

    Until the first batch all ranks draw the same numbers, so that all build the same model; from there on each draws
    its own. A training that goes on from a checkpoint gets the states of that moment back just before its first batch.
    """

    def __init__(self, seed: int, rank: int, world_size: int, device: torch.device, loop: Loop) -> None:
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._device, self._loop = device, loop
        self._seeded = False  # with a seed of this rank

    def take(self) -> dict[str, Any]:
        """The states now."""
        return get_state(self._device)

    def before_batch(self) -> None:
        """The states are put back at each stream that has ended too: the function may draw numbers in between."""
        if self._loop.loaded is not None and not self._loop.streams.handed_out:
            self._restore(self._loop.loaded)
            self._seeded = self._loop.loaded.manifest["seeded"]
        if not self._seeded:
            seed_all(rank_seed(self._seed, self._rank))
            self._seeded = True

    def after_track(self) -> None:
        """Where no stream was read, there will be no first batch: the states are put back with the objects."""
        if self._loop.loaded is not None and not self._loop.loaded.manifest["streams"]:
            self._restore(self._loop.loaded)

    def _restore(self, loaded: Loaded) -> None:
        """Put the states back, where this gang has as many ranks as the one that saved them."""
        if loaded.manifest["world_size"] == self._world_size:
            set_state(loaded.required(f"{RANDOM}.pt")[self._rank], self._device)
        else:  # nothing to go on from: new states, the same whenever this is done again
            seed_all(rank_seed(rank_seed(self._seed, self._rank), loaded.manifest["step"]))

    def state(self) -> dict[str, Any]:
        """Whether the states that are saved are of this rank's own seed."""
        return {"seeded": self._seeded}
