"""Many paths at once: checked as each is by itself."""

from __future__ import annotations

import random
from collections.abc import Callable

from runner.errors import DataError
from runner.untrusted.paths import check_inner, inner

PARTS = [
    "a", "b/c", "../x", "a/./b", "a/../b", "/abs", "", "a//b", "x%2e%2e/y", "a%20b", "a\\b", "http://x", "n\nl", "ü/é",
    ".", "..", "a/.", "a/..", "..a", ".hidden", "a b", "a/", "\x7f", "./a", "\n", "../",
]  # fmt: skip


def _said(check: Callable[[], object]) -> str | None:
    try:
        check()
    except DataError as error:
        return str(error)
    return None


def test_many_paths_are_checked_as_one() -> None:
    """Of many paths the first that leads out is the error that it is alone, and none is one if none does."""
    draw = random.Random(0)
    for _ in range(3000):
        paths = draw.choices(PARTS, k=draw.randrange(5))

        def one_by_one(paths: list[str] = paths) -> None:
            for path in paths:
                inner(path, "here")

        assert _said(lambda paths=paths: check_inner(paths, "here")) == _said(one_by_one), paths
