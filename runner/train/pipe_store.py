"""What ranks of one machine tell each other lies with the driver, behind pipes that nobody else can open.

A port would be open to every user of the machine, and what comes from it is unpickled.
"""

from __future__ import annotations

import multiprocessing.connection
import threading
from multiprocessing.connection import Connection
from typing import Any

#: Pipes of one rank: its function's thread and the one that tells where it is have one each.
PIPES = 2


class Server:
    """Keys and values for a gang. Each pipe has a thread of its own, so a rank that does not read holds up no other."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def pipes(self) -> tuple[Connection, ...]:
        """The ends for one rank, to be closed here once it has them."""
        ends = [multiprocessing.connection.Pipe() for _ in range(PIPES)]
        for ours, _ in ends:
            threading.Thread(target=self._serve, args=(ours,), name="runner-gang-store", daemon=True).start()
        return tuple(theirs for _, theirs in ends)

    def _serve(self, pipe: Connection) -> None:
        with pipe:
            while True:
                try:
                    name, keys, value = pipe.recv()
                    pipe.send(getattr(self, f"_{name}")(keys, value))
                except (EOFError, OSError):  # the rank has ended
                    return

    def _set(self, keys: list[str], value: bytes) -> None:
        with self._lock:
            self._values[keys[0]] = value

    def _compare_set(self, keys: list[str], value: tuple[bytes, bytes]) -> bytes:
        expected, desired = value
        with self._lock:
            found = self._values.get(keys[0])
            if found == expected or (found is None and not expected):
                found = self._values[keys[0]] = desired
            return expected if found is None else found

    def _get(self, keys: list[str], _: Any) -> list[bytes | None]:
        with self._lock:
            return [self._values.get(key) for key in keys]

    def _check(self, keys: list[str], _: Any) -> bool:
        with self._lock:
            return all(key in self._values for key in keys)

    def _delete(self, keys: list[str], _: Any) -> bool:
        with self._lock:
            return self._values.pop(keys[0], None) is not None


class PipeStore:
    """A rank's side: what meetings use of a `torch.distributed.Store`. Each clone has a pipe of its own.

    Raises:
        torch.distributed.DistNetworkError: the driver is gone.
        KeyError: a value that is not there.
    """

    def __init__(self, pipes: tuple[Connection, ...]) -> None:
        self._pipes = list(pipes)
        self._pipe: Connection | None = None

    def clone(self) -> PipeStore:
        """The same keys, for another thread."""
        made = PipeStore(())
        made._pipe = self._pipes.pop(0)
        return made

    def set(self, key: str, value: bytes | str) -> None:
        """Write a value."""
        self._ask("set", [key], value.encode() if isinstance(value, str) else value)

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        """Write a value where there is `expected`, or, where that is "", none. Returns the value that is there then."""
        return bytes(self._ask("compare_set", [key], (expected.encode(), desired.encode())))

    def get(self, key: str) -> bytes:
        """Read a value that is there."""
        return self.multi_get([key])[0]

    def multi_get(self, keys: list[str]) -> list[bytes]:
        """Read values that are there."""
        found = self._ask("get", keys)
        if None in found:
            raise KeyError(keys[found.index(None)])
        return list(found)

    def check(self, keys: list[str]) -> bool:
        """Whether all of them are there."""
        return bool(self._ask("check", keys))

    def delete_key(self, key: str) -> bool:
        """Remove a value. Returns whether it was there."""
        return bool(self._ask("delete", [key]))

    def _ask(self, what: str, keys: list[str], value: Any = None) -> Any:
        import torch.distributed as dist

        assert self._pipe is not None, "a clone serves one thread; the store itself none"
        try:
            self._pipe.send((what, keys, value))
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise dist.DistNetworkError(f"the driver of the ranks is gone: {error!r}") from error
