"""How the files of a project are called in `code.zip`, whose names are UTF-8, while a disk takes any bytes."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

_PLAIN, _ESCAPED = "project/", "project%/"


def member_of(inside: Path) -> str:
    """The name in the archive of a file, given relative to the project's folder."""
    name = inside.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        return _ESCAPED + quote(os.fsencode(name))
    return _PLAIN + name


def path_of(member: str) -> str | None:
    """The file that a name in the archive means, relative to the project's folder; None for what is not its own."""
    if member.startswith(_PLAIN):
        return member.removeprefix(_PLAIN)
    if member.startswith(_ESCAPED):
        return os.fsdecode(unquote_to_bytes(member.removeprefix(_ESCAPED)))
    return None
