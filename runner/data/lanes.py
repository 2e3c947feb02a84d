"""How many lanes a dataset has and how large their blocks are: a function of its units alone.

Neither the world size nor a memory budget enters, so that the order of samples is the same wherever it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.data.shards import AllUnits, Unit, numbers_of

#: Data up to this size (decoded) is one block: its shuffle is perfect, and every rank holds all of it.
SMALL_BYTES = 64 << 20
#: Least size of a block of larger data; a rank has about (lanes / world size + 1) lanes open.
BLOCK_BYTES = 4 << 20
#: The blocks of all lanes together have at least this: among so much data a row comes at any place.
WINDOW_BYTES = 64 << 20
#: More lanes mix more distant rows, and each costs memory.
MOST_LANES = 32
FEWEST_LANES = 4
#: Data of fewer units than this is cut finer, at the price of a temporary file for each unit.
FEW_UNITS = 8
#: What all lanes may hold together on one rank, and what a decoder may hold of a unit: pages, and what was read ahead.
OPEN_BYTES, HELD_BYTES = 256 << 20, 16 << 20


def layout(units: AllUnits | Sequence[Unit], among: int = 1) -> tuple[int, int]:
    """Lanes and block bytes for these units, of a dataset that is one of `among` that are read together.

    Small data is one lane of one block. Otherwise lanes are as many as fit into OPEN_BYTES if each holds a block, and
    what a decoder holds of a unit; but not more than there are units, within the bounds above. They are a power of two,
    as most batch sizes are: then the lanes that a rank touches are the same in every step. Where they are few, blocks
    are larger.

    Returns:
        (lanes, block_bytes)
    """
    total = int(_numbers(units, "bytes").sum())
    if total <= SMALL_BYTES // among:
        return 1, max(total, 1)
    fitting = max(FEWEST_LANES, min(MOST_LANES, OPEN_BYTES // among // (BLOCK_BYTES + held(units))))
    lanes = _power_of_two(min(fitting, max(FEW_UNITS, len(units))))
    return lanes, max(BLOCK_BYTES, WINDOW_BYTES // among // lanes)


def held(units: AllUnits | Sequence[Unit], most: int = HELD_BYTES) -> int:
    """Bytes that a decoder may hold of one of the units, if none holds more than `most`."""
    largest = int(_numbers(units, "length")[_numbers(units, "bytes") > BLOCK_BYTES].max(initial=0))
    return max(BLOCK_BYTES, min(most, largest))


def _numbers(units: AllUnits | Sequence[Unit], name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return units.numbers(name) if isinstance(units, AllUnits) else np.array(numbers_of(units, name), np.int64)


def _power_of_two(most: int) -> int:
    return 1 << most.bit_length() - 1
