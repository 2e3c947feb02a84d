"""A script that sets up `torch.distributed` itself, as one for `torchrun` does, finds it set up and is content."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch.distributed as dist

from runner.errors import SpecError


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While the user's function runs, the process group that is there stays: to set it up again, or to take it down,
    does nothing. Without a group, and for groups of the function's own, both do what they always do.
    """
    if not dist.is_initialized():
        yield
        return
    begin, end = dist.init_process_group, dist.destroy_process_group

    def init_process_group(backend: str | None = None, *args: Any, **options: Any) -> None:
        _check(backend, options)

    def destroy_process_group(group: Any = None) -> None:
        if group is not None and group is not dist.group.WORLD:
            end(group)

    _put({begin: init_process_group, end: destroy_process_group})
    try:
        yield
    finally:
        _put({init_process_group: begin, destroy_process_group: end})


def _put(instead: dict[Callable[..., Any], Callable[..., Any]]) -> None:
    """Other functions under every name that a module has for these, as after ``from torch.distributed import ...``.
    torch's own modules keep theirs.
    """
    by_id = {id(old): new for old, new in instead.items()}
    for key, module in list(sys.modules.items()):
        if key.startswith("torch.") and module is not dist:
            continue
        for name, value in list((getattr(module, "__dict__", None) or {}).items()):
            if id(value) in by_id:
                setattr(module, name, by_id[id(value)])


def _check(backend: str | None, options: dict[str, Any]) -> None:
    """The group that is there must be the one that is asked for."""
    asked = {"world_size": dist.get_world_size(), "rank": dist.get_rank()}
    wrong = [f"{name}={options[name]}" for name, have in asked.items() if options.get(name, -1) not in (-1, have)]
    if backend == "nccl" and dist.get_backend() != "nccl":
        wrong.append("backend='nccl', and there is no GPU for each rank")
    if wrong:
        raise SpecError(
            ", ".join(wrong),
            allowed=f"the group that is there: rank {asked['rank']} of {asked['world_size']}, '{dist.get_backend()}'",
            todo="leave them out",
            where="torch.distributed.init_process_group",
        )
