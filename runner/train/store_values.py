"""Python values of any size in the gang's store, which ends a connection that sends more than 8 MiB at once.

In pods the store is a port that whoever is let in by the network can reach. So a value carries a proof that it is of
the gang and belongs to its key, by a secret that Ray has brought to each rank, and nothing is unpickled without.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
from typing import TYPE_CHECKING, Any

from runner.errors import RunFailed

if TYPE_CHECKING:
    import torch.distributed as dist

    from runner.train.pipe_store import PipeStore

    Store = dist.Store | PipeStore

#: Bytes of one entry of the store.
PART_BYTES = 4 << 20
_COUNT_BYTES = 4
_HEAD_BYTES = _COUNT_BYTES + hashlib.sha256().digest_size
#: More parts than any value has.
_MOST_PARTS = 1 << 12


def put(store: Store, key: str, value: Any, secret: bytes = b"") -> list[str]:
    """Write a value; the store has `key` once all of it is there. Returns every key that it lies under."""
    data = pickle.dumps(value)
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    rest = _rest(key, len(parts) - 1)
    for name, part in zip(rest, parts[1:], strict=True):
        store.set(name, part)  # type: ignore[arg-type]
    head = len(rest).to_bytes(_COUNT_BYTES, "big") + _proof(key, data, secret)
    store.set(key, head + parts[0])  # type: ignore[arg-type]
    return [key, *rest]


def get(store: Store, key: str, secret: bytes = b"") -> Any:
    """Read a value that is there. Raises RunFailed if no rank of the gang has written it."""
    return _whole(store, key, store.get(key), secret)[0]


def take(store: Store, keys: list[str], secret: bytes = b"") -> list[Any]:
    """Read values that are there, and remove them. Raises RunFailed as `get`."""
    found = [_whole(store, key, first, secret) for key, first in zip(keys, store.multi_get(keys), strict=True)]
    delete(store, [name for key, (_, rest) in zip(keys, found, strict=True) for name in (key, *rest)])
    return [value for value, _ in found]


def delete(store: Store, keys: list[str]) -> None:
    """Remove what `put` has written."""
    for key in keys:
        store.delete_key(key)


def _whole(store: Store, key: str, first: bytes, secret: bytes) -> tuple[Any, list[str]]:
    """The value whose entry under `key` has been read, and the keys of the rest of it."""
    number = int.from_bytes(first[:_COUNT_BYTES], "big")
    if number > _MOST_PARTS:
        raise _strange(key)
    rest = _rest(key, number)
    data = b"".join([memoryview(first)[_HEAD_BYTES:], *(store.get(name) for name in rest)])
    if not hmac.compare_digest(first[_COUNT_BYTES:_HEAD_BYTES], _proof(key, data, secret)):
        raise _strange(key)
    return pickle.loads(data), rest


def _proof(key: str, data: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, hashlib.sha256(key.encode()).digest() + data, "sha256")


def _strange(key: str) -> RunFailed:
    return RunFailed(
        f"what lies under '{key}' in the store of the ranks was written by no rank of this run: somebody "
        "else in the network reaches it. See docs/security.md for the policies that keep others out"
    )


def _rest(key: str, number: int) -> list[str]:
    return [f"{key}.{i}" for i in range(1, number + 1)]
