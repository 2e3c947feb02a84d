"""States as files that are read without running code: safetensors, torch.save with weights_only, JSON of `tagged`.

The JSON may name classes of the run's own code; see `classes`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from runner.train.checkpoint.safe_state import back, exact, plain, writer
from runner.train.checkpoint.state import MODULE, VALUE

_ALIASES = "runner.aliases"
_SAFE = {
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
}


def write(folder: Path, name: str, kind: str, state: Any) -> str:
    """Write one object's state into `folder`; returns the file's name."""
    if kind == VALUE:
        return _write_json(folder / f"{name}.json", state, name)
    if kind == MODULE and all(_is_dense(value) for value in state.values()):
        return _write_tensors(folder / f"{name}.safetensors", state)
    path = folder / f"{name}.pt"
    notes: dict[str, Any] = {}
    torch.save(plain(state, name, notes), path)
    if notes:
        (folder / notes_of(path.name)).write_text(json.dumps(notes))
    return path.name


def notes_of(file: str) -> str:
    """The file beside a `.pt` that says what its values were, where torch reads them only in a nearest form."""
    return f"{file.removesuffix('.pt')}.types.json"


def read(path: Path, notes: Path | None = None) -> Any:
    """The state in a file of `write`.

    Args:
        notes: the file of `notes_of`, where there is one.
    """
    if path.suffix == ".json":
        return back(json.loads(path.read_text()))
    if path.suffix == ".safetensors":
        return _read_tensors(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state if notes is None else exact(state, json.loads(notes.read_text()))


def sha256(path: Path) -> str:
    """The hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any, name: str) -> str:
    path.write_text(json.dumps(writer().encode(value, name), allow_nan=False))
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
