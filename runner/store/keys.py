"""Which files below a store's root are its own: it may lie in, or be, a folder that holds a user's files besides."""

from __future__ import annotations

from runner.untrusted.names import RESULT, RUN_ID

_OF_DATASET = ("_log", "_manifests", "_summary.json", "_versions")


def is_own(parts: tuple[str, ...]) -> bool:
    """Whether runs have made what has this path below the root of a store (see `bundle` and `data.catalog`)."""
    top, second, third = (*parts, "", "", "")[:3]
    if top in ("results", "tasks"):
        return RESULT.fits(second)
    if top == "index":
        return RUN_ID.fits((third or second).partition("~")[0])
    if top == "datasets":
        return third in _OF_DATASET or parts[2:] == ("data",)
    return RUN_ID.fits(top)
