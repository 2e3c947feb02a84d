"""What a rank gets of its machine."""

from __future__ import annotations

import pytest

from runner import Group
from runner.spec.shape import RankShape, share_of_rank


@pytest.mark.parametrize(
    ("group", "shape"),
    [
        (Group(cpu=8, gpu=2), RankShape(4, 1)),
        (Group(cpu=1, gpu=4, pretend_gpu=True), RankShape(1, 1, True)),
        (Group(cpu=4), RankShape(1, 0)),
        (Group(cpu=0.5), RankShape(1, 0)),
    ],
)
def test_a_rank_has_its_share_of_a_machine(group: Group, shape: RankShape) -> None:
    """On a cluster a rank has one GPU, or one core, and an equal share of the cores, at least one."""
    assert share_of_rank(group, {}, one_machine=False) == shape
    assert shape.resources == {"CPU": float(shape.cores or 0), **({"GPU": 1.0} if shape.gpus else {})}


def test_on_this_machine_nothing_is_set_apart() -> None:
    """A group says nothing of a rank where all is on one machine."""
    assert share_of_rank(Group(cpu=8, gpu=2), {}, one_machine=True) == RankShape()
    assert RankShape().resources is None
