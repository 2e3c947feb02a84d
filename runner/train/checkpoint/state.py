"""What a tracked object is to a checkpoint: taken as tensors and plain values, put back in place.

Modules travel without the wrappers of DDP and `torch.compile`, and whole even where FSDP shards them, so a checkpoint
reads the same on any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict as whole
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from runner.errors import SpecError
from runner.train.checkpoint.safe_state import plain, writer

MODULE, STATE, VALUE = "module", "state", "value"
_WHOLE = whole.StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class Tracked:
    """An object that checkpoints hold.

    Args:
        kind: 'module' (a torch module), 'state' (anything with state_dict and load_state_dict) or 'value' (a dict or
            list of values).
    """

    name: str
    object: Any
    kind: str


def tracked(name: str, value: Any) -> Tracked:
    """Decide how an object is kept.

    Raises:
        SpecError: it cannot be, or something in it cannot; says where. Rather now than at the first checkpoint.
    """
    if isinstance(value, torch.nn.Module):
        return Tracked(name, unwrapped(value), MODULE)
    if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
        plain(value.state_dict(), name)
        return Tracked(name, value, STATE)
    if isinstance(value, dict | list):
        writer().encode(value, name)
        return Tracked(name, value, VALUE)
    raise SpecError(
        f"{name}={value!r} ({type(value).__name__}) cannot be put back in place",
        allowed="a module, an object with state_dict() and load_state_dict(), or a dict or list of values",
        todo=f"keep the value in a dict: {name} = {{'value': ...}}; ctx.track({name}={name})",
        where="ctx.track",
    )


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The user's module under DDP and `torch.compile`."""
    while True:
        if isinstance(module, DistributedDataParallel):
            module = module.module
        elif isinstance(getattr(module, "_orig_mod", None), torch.nn.Module):
            module = getattr(module, "_orig_mod")  # noqa: B009 - mypy takes any attribute of a module for a tensor
        else:
            return module


def take(item: Tracked, modules: list[torch.nn.Module]) -> Any:
    """The state of an object. Where FSDP shards it this is a collective, and only rank 0 gets the whole.

    Args:
        modules: the tracked modules, of which an optimizer's parameters may be sharded.
    """
    if item.kind == VALUE:
        return item.object
    if item.kind == MODULE:
        if is_sharded(item.object):
            return whole.get_model_state_dict(item.object, options=_WHOLE)
        return item.object.state_dict()
    owner = _sharded_owner(item.object, modules)
    if owner is not None:
        return whole.get_optimizer_state_dict(owner, item.object, options=_WHOLE)
    return item.object.state_dict()


def put(item: Tracked, state: Any, modules: list[torch.nn.Module]) -> None:
    """Put a state back. Every rank has the whole state; a shard takes its part."""
    if item.kind == VALUE:
        _put_value(item.object, state)
    elif item.kind == MODULE and is_sharded(item.object):
        whole.set_model_state_dict(item.object, state, options=_WHOLE)
    elif item.kind == STATE and (owner := _sharded_owner(item.object, modules)) is not None:
        whole.set_optimizer_state_dict(owner, item.object, state, options=_WHOLE)
    else:
        item.object.load_state_dict(state)


def is_sharded(module: torch.nn.Module) -> bool:
    """Whether FSDP shards it or a part of it."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def _sharded_owner(value: Any, modules: list[torch.nn.Module]) -> torch.nn.Module | None:
    """The sharded module whose parameters an optimizer steps."""
    if not isinstance(value, torch.optim.Optimizer):
        return None
    stepped = {id(p) for group in value.param_groups for p in group["params"]}
    for module in modules:
        if is_sharded(module) and any(id(p) in stepped for p in module.parameters()):
            return module
    return None


def _put_value(target: dict[str, Any] | list[Any], state: Any) -> None:
    if isinstance(target, dict):
        target.clear()
        target.update(state)
    else:
        target[:] = state
