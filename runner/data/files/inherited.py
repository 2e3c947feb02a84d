"""File systems that a forked process has from its parent: kept as they are, for their end there would harm the parent.

A connection of aiohttp's that is collected is taken out of its loop's epoll, which parent and child share: the parent
would never hear of that connection again, and wait for its next answer until it times out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

_kept: list[Any] = []
_forking: list[Any] = []


def keep(fs: Any) -> None:
    """Never collect a file system that this process must not use."""
    _kept.append(fs)


def _before() -> None:
    """fsspec forgets them all in the child, perhaps before the child's first line of ours."""
    spec = sys.modules.get("fsspec.spec")
    if spec is not None:
        for kind in _kinds(spec.AbstractFileSystem):
            _forking.extend(list(vars(kind).get("_cache", {}).values()))


def _in_child() -> None:
    _kept.extend(_forking)
    _forking.clear()


def _kinds(kind: Any) -> Iterator[Any]:
    yield kind
    for one in kind.__subclasses__():
        yield from _kinds(one)


os.register_at_fork(before=_before, after_in_parent=_forking.clear, after_in_child=_in_child)
