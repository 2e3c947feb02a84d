"""A value on its way to another process: its pickle, and beside it the buffers of its arrays, which are not pickled."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, TypeAlias

#: The pickle, then one buffer for each array in it.
Parcel: TypeAlias = Sequence[Any]


def pack(value: Any) -> list[Any]:
    """The parts of a value: bytes and memory of its arrays, which must stay as they are until the parcel is sent."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [head, *(buffer.raw() for buffer in buffers)]


def unpack(parcel: Parcel) -> Any:
    """The value. Its arrays lie in the parcel's own buffers: they can be written where those can."""
    return pickle.loads(parcel[0], buffers=parcel[1:])


def send(connection: Any, parcel: Parcel) -> None:
    """Send the parts through a connection of multiprocessing. Raises OSError if nobody is there."""
    connection.send_bytes(len(parcel).to_bytes(4, "little"))
    for part in parcel:
        connection.send_bytes(part)


def receive(connection: Any) -> list[Any]:
    """The next parcel, in memory of its own. Raises EOFError or OSError if nobody is there."""
    count = int.from_bytes(connection.recv_bytes(), "little")
    return [bytearray(connection.recv_bytes()) for _ in range(count)]
