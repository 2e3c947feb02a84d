"""What ended a process, as the bundle keeps it."""

from __future__ import annotations

import pytest

from runner.errors import Cause
from runner.record.endings import Ending


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("node-1: out of memory: the kernel killed rank0", None),
        ('{"cause": "of the future", "words": "x"}', None),
        ('{"cause": "evicted", "words": "the node was full"}', Ending("the node was full", Cause.EVICTED)),
        ("[1]", None),
        ("[" * 100_000, None),
        (r'{"cause": "evicted", "words": "\ud800"}', None),
        ('{"cause": "evicted", "words": 3}', None),
    ],
)
def test_an_ending_is_read_back(text: str, ending: Ending | None) -> None:
    """Words alone, as they were kept before there were causes, are of memory that ran out."""
    assert Ending.decoded(text) == (ending or Ending(text, Cause.OUT_OF_MEMORY))
    assert ending is None or Ending.decoded(ending.encoded().decode()) == ending
