"""Paths that somebody else has written down, as parts of a folder: none of them leads out of it.

What a store holds (manifests, records) names files relative to a folder. Whoever may write there could name any file
that the reader may read, so such a path is checked where it comes in, and nothing is opened, linked or copied by one
that was not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from runner.errors import DataError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ODD = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\\%]")


def inner(path: object, where: str) -> str:
    """The path, if it leads to a file in the folder that it is relative to, on disk and in any store.

    Args:
        where: who names it, for errors.

    Raises:
        DataError: it is absolute, has '.', '..', a backslash, a control character or a scheme.
    """
    if not isinstance(path, str) or not is_inner(path):
        raise DataError(
            f"a path that leads out of its folder: {path!r}"[:300],
            allowed="relative paths with '/', without '.', '..', backslashes, control characters and schemes",
            todo="rename the file; where it is not yours, do not use the data: it may be made to have other files read",
            where=where,
        )
    return path


def check_inner(paths: Sequence[str], where: str) -> None:
    """Raise what `inner` does of the first of many paths that leads out."""
    together = "\n".join([f"/{path}/" for path in paths])
    odd = any(part in together for part in ("//", "/./", "/../")) or _ODD.search(together)
    if odd or together.count("\n") != max(len(paths) - 1, 0):  # only what may be wrong is looked at by itself
        for path in paths:
            inner(path, where)


def is_inner(path: str) -> bool:
    """Whether a relative path stays in its folder, also where somebody decodes '%2e' on the way."""
    if not path or path.startswith("/") or "\\" in path or "://" in path or _CONTROL.search(path):
        return False
    return not {".", ".."} & {*path.split("/"), *re.split(r"[/\\]", unquote(path))}
