"""Which files below a store's root are its own: it may lie in, or be, a folder that holds a user's files besides."""

from __future__ import annotations

import re

_RUN = re.compile(r"r\d{6}-\d{6}[0-9a-z]{2}-[0-9a-z-]+")
_KEY = re.compile(r"[0-9a-f]{20}")
_OF_DATASET = ("_log", "_manifests", "_summary.json", "_versions")


def is_own(parts: tuple[str, ...]) -> bool:
    """Whether runs have made what has this path below the root of a store (see `bundle` and `data.catalog`)."""
    top, second, third = (*parts, "", "", "")[:3]
    if top in ("results", "tasks"):
        return _KEY.fullmatch(second) is not None
    if top == "index":
        return _RUN.match(second) is not None
    if top == "datasets":
        return third in _OF_DATASET or parts[2:] == ("data",)
    return _RUN.fullmatch(top) is not None
