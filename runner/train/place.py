"""Where a rank stands among the others, and how those of one machine find each other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from runner.train.peers import COLLECTIVE_TIMEOUT_S
from runner.worker import processes

if TYPE_CHECKING:
    from runner.train.feeding.helpers import Launcher


@dataclass(frozen=True)
class LocalStore:
    """How ranks of one machine find each other, and meet: in a folder and by pipes of the run's own.

    Args:
        file: of the process group, in a folder that only this user enters.
        pipes: for meetings; see `pipe_store`.
    """

    file: str
    pipes: tuple[Connection, ...]

    def connect(self, place: Place) -> dist.Store:
        """What the process group needs."""
        store = dist.FileStore(self.file, place.world_size)
        store.set_timeout(timedelta(seconds=COLLECTIVE_TIMEOUT_S))
        return store


@dataclass(frozen=True)
class Place:
    """Where a rank stands.

    Args:
        rank: of `world_size`; local_rank of local_world_size: among the ranks of its machine.
        store: how to set up the process group; None where the launcher has done it, or for a rank alone.
        reports: a pipe to the launcher, for what must be said before a process is ended by force.
        cores: of this rank, where its machine has been told; None: all cores, shared with the ranks beside it.
        alone: whether it sees its own GPU only, and not those of the ranks beside it.
        secret: of the gang, which proves to a rank what another has told; b"" where no one else can tell it anything.
        told: how many threads the user wants for one operation; None: what follows from the cores.
        helpers: starts what transforms batches for this rank; None: the rank does it itself.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    store: LocalStore | None = None
    reports: Connection | None = None
    cores: int | None = None
    alone: bool = False
    told: int | None = None
    secret: bytes = b""
    helpers: Launcher | None = None

    @property
    def threads(self) -> int:
        """Threads for one operation: what the user says, or the machine's cores, shared among its ranks. It shapes
        results, so it is set."""
        if self.told is not None:
            return self.told
        if self.cores is not None:
            return self.cores
        return max(1, processes.cores() // self.local_world_size)

    @property
    def device(self) -> torch.device:
        """A GPU of its own where the machine has one for each of its ranks; the CPU otherwise."""
        index, needed = (0, 1) if self.alone else (self.local_rank, self.local_world_size)
        if torch.cuda.is_available() and torch.cuda.device_count() >= needed:
            return torch.device("cuda", index)
        return torch.device("cpu")
