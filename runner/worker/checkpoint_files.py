"""States as files that are read without running code: safetensors, torch.save with weights_only, JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from runner.errors import SpecError
from runner.worker.checkpoint_state import MODULE, VALUE, plain

_ALIASES = "runner.aliases"
_SAFE = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
}  # fmt: skip


def write(folder: Path, name: str, kind: str, state: Any) -> str:
    """Write one object's state into `folder`; returns the file's name."""
    if kind == VALUE:
        return _write_json(folder / f"{name}.json", state, name)
    if kind == MODULE and all(_is_dense(value) for value in state.values()):
        return _write_tensors(folder / f"{name}.safetensors", state)
    path = folder / f"{name}.pt"
    torch.save(plain(state, name), path)
    return path.name


def read(path: Path) -> Any:
    """The state in a file of `write`."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".safetensors":
        return _read_tensors(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def sha256(path: Path) -> str:
    """The hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any, name: str) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"{name} does not fit into JSON: {error}",
            allowed="dicts and lists of strings, numbers, true, false and null", where="ctx.track",
        ) from error  # fmt: skip
    path.write_text(text)
    return path.name


def _is_dense(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and value.dtype in _SAFE


def _write_tensors(path: Path, state: dict[str, torch.Tensor]) -> str:
    """safetensors refuses shared memory: a tied tensor is written once, and its other names are kept as aliases."""
    from safetensors.torch import save_file

    written: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    same: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in state.items():
        tensor = tensor.detach()
        storage = tensor.untyped_storage().data_ptr()
        place = (storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
        if storage and place in same:
            aliases[name] = same[place]
            continue
        same[place] = name
        apart = tensor.clone() if storage in storages else tensor  # another view of memory that is written already
        storages.add(storage)
        written[name] = apart.cpu().contiguous()
    # one key: safetensors writes several in a random order, and equal weights should be equal files
    save_file(written, path, metadata={_ALIASES: json.dumps(aliases)} if aliases else {"format": "pt"})
    return path.name


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import safe_open
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = load_file(path, device="cpu")
    with safe_open(path, framework="pt") as file:
        aliases = json.loads((file.metadata() or {}).get(_ALIASES, "{}"))
    for name, first in aliases.items():
        tensors[name] = tensors[first]
    return tensors
