"""Python values of any size in the gang's store, which ends a connection that sends more than 8 MiB at once."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch.distributed as dist

#: Bytes of one entry of the store.
PART_BYTES = 4 << 20
_HEAD_BYTES = 4


def put(store: dist.Store, key: str, value: Any) -> list[str]:
    """Write a value; the store has `key` once all of it is there. Returns every key that it lies under."""
    data = pickle.dumps(value)
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    rest = _rest(key, len(parts) - 1)
    for name, part in zip(rest, parts[1:], strict=True):
        store.set(name, part)  # type: ignore[arg-type]
    store.set(key, len(rest).to_bytes(_HEAD_BYTES, "big") + parts[0])  # type: ignore[arg-type]
    return [key, *rest]


def get(store: dist.Store, key: str) -> Any:
    """Read a value that is there."""
    return _whole(store, key, store.get(key))[0]


def take(store: dist.Store, keys: list[str]) -> list[Any]:
    """Read values that are there, and remove them."""
    found = [_whole(store, key, first) for key, first in zip(keys, store.multi_get(keys), strict=True)]
    delete(store, [name for key, (_, rest) in zip(keys, found, strict=True) for name in (key, *rest)])
    return [value for value, _ in found]


def delete(store: dist.Store, keys: list[str]) -> None:
    """Remove what `put` has written."""
    for key in keys:
        store.delete_key(key)


def _whole(store: dist.Store, key: str, first: bytes) -> tuple[Any, list[str]]:
    """The value whose entry under `key` has been read, and the keys of the rest of it."""
    rest = _rest(key, int.from_bytes(first[:_HEAD_BYTES], "big"))
    parts = (store.get(name) for name in rest)
    return pickle.loads(b"".join([memoryview(first)[_HEAD_BYTES:], *parts])), rest


def _rest(key: str, number: int) -> list[str]:
    return [f"{key}.{i}" for i in range(1, number + 1)]
