"""The order: a pure function of manifest, seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest

from runner.data.manifest import build
from runner.data.stream.order import Order, permutation
from runner.errors import DataError
from tests.unit.data.kit import numbers, some_numbers

SEEDS = range(40)


def pairs(order: Order, epoch: int) -> list[tuple[int, int]]:
    units, rows = order.epoch(epoch).rows(np.arange(order.rows))
    return list(zip(units.tolist(), rows.tolist(), strict=True))


def in_file_order(order: Order) -> list[tuple[int, int]]:
    return [(unit, row) for unit, rows in enumerate(order.unit_rows.tolist()) for row in range(rows)]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_once(seed: int) -> None:
    """An epoch has every row exactly once."""
    order = Order(some_numbers(seed), seed)
    assert sorted(pairs(order, seed % 3)) == in_file_order(order)


@pytest.mark.parametrize("seed", SEEDS)
def test_unshuffled(seed: int) -> None:
    """Without shuffling every epoch is the file order."""
    order = Order(some_numbers(seed), seed, shuffle=False)
    assert pairs(order, 0) == pairs(order, 5) == in_file_order(order)


@pytest.mark.parametrize("seed", SEEDS)
def test_lanes_in_turn(seed: int) -> None:
    """The closed form equals lanes that take turns, round after round, and drop out when they are exhausted."""
    epoch = Order(some_numbers(seed), seed).epoch(0)
    lengths = epoch.lengths.tolist()
    expected = [(lane, i) for i in range(max(lengths)) for lane, length in enumerate(lengths) if i < length]
    lanes, indexes = epoch.locate(np.arange(sum(lengths)))
    assert list(zip(lanes.tolist(), indexes.tolist(), strict=True)) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_any_position_alone(seed: int) -> None:
    """A position asked for by itself is the same as among all others."""
    order = Order(some_numbers(seed), seed)
    everything = pairs(order, 1)
    for position in np.random.default_rng(seed).integers(0, order.rows, 5).tolist():
        unit, row = order.epoch(1).rows(np.array([position]))
        assert (int(unit[0]), int(row[0])) == everything[position]


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks(seed: int) -> None:
    """The blocks of a lane follow each other, cover it, and are of at most a block's bytes or of one row."""
    manifest = some_numbers(seed)
    epoch = Order(manifest, seed).epoch(0)
    for lane, length in enumerate(epoch.lengths.tolist()):
        at = number = 0
        while at < length:
            block = epoch.block(lane, number)
            assert block.start == at
            assert block.rows == sum(segment.stop - segment.start for segment in block.segments)
            assert block.rows == 1 or block.rows * 8 <= manifest.block_bytes + 16
            assert sorted(block.sequence.tolist()) == list(range(block.rows))
            assert set(epoch.block_of(lane, np.arange(at, at + block.rows)).tolist()) == {number}
            at, number = at + block.rows, number + 1
        assert at == length


def test_pure() -> None:
    """Epoch, seed and data each change the order; the same three give the same order, whatever was asked before."""
    manifest = numbers([[100] * 5] * 4, lanes=3, block_bytes=300)
    order = Order(manifest, 7)
    first = pairs(order, 0)
    others = [pairs(order, 1), pairs(order, 2), pairs(Order(manifest, 8), 0), pairs(Order(manifest, 8), 1)]
    assert pairs(order, 0) == first == pairs(Order(manifest, 7), 0)
    assert len({tuple(one) for one in [first, *others]}) == 5


def test_never_changes() -> None:
    """The order of version 1, pinned: a change here makes every resumed run see other samples."""
    assert permutation(10, (1, 2), (3, 4, 5)).tolist() == PINNED_PERMUTATION
    order = Order(numbers([[3, 4], [5]], lanes=2, block_bytes=40), 42)
    assert pairs(order, 3) == PINNED_ORDER


PINNED_PERMUTATION = [3, 4, 2, 0, 5, 9, 1, 7, 6, 8]
PINNED_ORDER = [(1, 2), (2, 2), (1, 1), (2, 0), (1, 3), (2, 1), (1, 0), (2, 4), (0, 0), (2, 3), (0, 1), (0, 2)]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 64, 65, 1000])
def test_permutation(n: int) -> None:
    """Every length gives a permutation, and another key or counter another one."""
    found = permutation(n, (1, 2))
    assert sorted(found.tolist()) == list(range(n))
    if n > 10:
        assert found.tolist() != permutation(n, (1, 3)).tolist() != permutation(n, (1, 2), (1, 0, 0)).tolist()


def test_permutation_is_uniform() -> None:
    """All six orders of three things come equally often (chi-squared over 6,000 draws, 5 degrees of freedom)."""
    drawn = [tuple(permutation(3, (9, 9), (i, 0, 0)).tolist()) for i in range(6000)]
    counts = np.array([drawn.count(one) for one in set(drawn)])
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # p = 0.001


def test_lanes_are_balanced() -> None:
    """Lanes differ by less than two units."""
    random = np.random.default_rng(0)
    manifest = numbers([random.integers(1, 1000, 50).tolist() for _ in range(40)], lanes=16, block_bytes=4096)
    lengths = Order(manifest, 1).epoch(0).lengths
    assert lengths.max() - lengths.min() < 2 * 1000


def test_few_units_are_cut() -> None:
    """Fewer units than lanes are cut into runs, so that a shuffle mixes distant rows."""
    order = Order(numbers([[8000]], lanes=8, block_bytes=800), 0)
    epoch = order.epoch(0)
    assert (epoch.lengths == 1000).all()
    _, rows = epoch.rows(np.arange(64))
    assert len(set((rows // 1000).tolist())) == 8


def test_small_data_is_shuffled_perfectly() -> None:
    """Data of one block has the same blocks in every epoch, and the first rows come from everywhere."""
    order = Order(numbers([[100] * 10] * 10), 0)
    assert order.epoch(0).block(0, 0).segments == order.epoch(1).block(0, 0).segments
    units, _ = order.epoch(0).rows(np.arange(500))
    assert len(set(units.tolist())) > 90


def test_large_data_is_quick() -> None:
    """A terabyte in 10,000 units: any position is found without touching the others (time and memory would show it)."""
    order = Order(numbers([[25_600] * 100] * 100, row_bytes=4096), 1)
    epoch = order.epoch(1000)
    last = np.arange(order.rows - 1000, order.rows)
    lanes, _ = epoch.locate(last)
    assert order.rows == 256_000_000
    assert set(lanes.tolist()) <= set(range(order.lanes))
    unit, row = epoch.rows(last[-1:])
    assert 0 <= unit[0] < 10_000
    assert 0 <= row[0] < 25_600


def test_no_rows(tmp_path: object) -> None:
    """Data without rows, or with uncounted rows, has no order."""
    with pytest.raises(DataError, match="no rows"):
        Order(numbers([[]]))
    from pathlib import Path

    (Path(str(tmp_path)) / "a.txt").write_text("a\n")
    with pytest.raises(DataError, match="not counted"):
        Order(build(str(tmp_path)))
