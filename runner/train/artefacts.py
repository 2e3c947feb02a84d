"""What `ctx.save` keeps, and in which kind of file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from runner.errors import SpecError
from runner.record import Bundle
from runner.store import Store
from runner.train.checkpoint import files as checkpoint_files
from runner.train.checkpoint import state as checkpoint_state
from runner.train.checkpoint.state import MODULE, STATE
from runner.untrusted.names import ARTEFACT


def keep(bundle: Bundle, stage: str, name: str, value: Any, rank: int) -> str:
    """Keep rank 0's value as an artefact of a stage; returns its URL. Every rank must call it with a module."""
    if isinstance(value, torch.nn.Module):
        value = checkpoint_state.take(checkpoint_state.tracked(name, value), [])
    key = bundle.artefact(stage, _file_name(name, value))
    if rank == 0:
        _write(bundle.store, key, value)
    return f"{bundle.store.url}/{key}"


def _file_name(name: str, value: Any) -> str:
    if not ARTEFACT.fits(name):
        raise SpecError(f"the name {name!r}", allowed=f"{ARTEFACT.words}, at most {ARTEFACT.longest}", where="ctx.save")
    return name if "." in name else name + _ending(value)


def _write(store: Store, key: str, value: Any) -> None:
    """An earlier one is replaced."""
    if isinstance(value, str):
        store.put(key, value.encode())
    elif isinstance(value, bytes):
        store.put(key, value)
    elif _ending(value) == ".json":
        store.put(key, _json(value))
    else:
        kind = MODULE if _ending(value) == ".safetensors" else STATE
        with tempfile.TemporaryDirectory() as folder:
            written = checkpoint_files.write(Path(folder), "artefact", kind, value)
            store.put_file(key, Path(folder) / written)


def _ending(value: Any) -> str:
    if isinstance(value, str):
        return ".txt"
    if isinstance(value, bytes):
        return ".bin"
    if isinstance(value, dict) and value and all(isinstance(part, torch.Tensor) for part in value.values()):
        return ".safetensors"
    return ".pt" if _has_tensor(value) else ".json"


def _has_tensor(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(_has_tensor(part) for part in parts)


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, indent=1).encode()
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"a {type(value).__name__} that does not fit into JSON ({error})",
            allowed="text, bytes, JSON values, a module, or tensors in dicts and lists",
            where="ctx.save",
        ) from error
