"""Which files of a project its code may read as data, where nobody can watch which it does read.

In a run's own copy of the code they are those that travelled, and the copy has a list of them (`FILES_NOTE`). In the
project's own folder, where stages run inline, git's ignored files are there too.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from runner.code.slicing.files import SKIPPED
from runner.process.code_root import FILES_NOTE, Folders
from runner.store.keys import is_own

#: Dependencies: the names of all data files that travel, and of all that lie in the project's folder.
TRAVELLING, HERE = "**", "** here"
#: More files than these are not looked at: of what code has read in such a folder nothing is certain.
MOST_FILES = 20_000
#: Of the SHA-256 that stands for a file.
DIGITS = 16
_NO_DATA = (".py", ".pyi", ".pyc", ".ipynb", ".md", ".rst", ".lock")


def is_data(name: str) -> bool:
    """Whether a file, by its name relative to the project, is none of its sources, pages and hidden files."""
    return not name.endswith(_NO_DATA) and not any(part.startswith(".") for part in name.split("/"))


def names_inside(base: str, paths: Iterable[str], root: Path) -> frozenset[str]:
    """The names in a project of those files below `base` that lie in it; of a copy, in the project that it is of."""
    origin, base = Folders.of(root).origin or str(root), base.removeprefix("file://")
    if "://" in base or not (Path(base).is_relative_to(origin) or Path(origin).is_relative_to(base)):
        return frozenset()
    below = f"{origin.rstrip(os.sep)}{os.sep}"
    places = (os.path.join(base, path) for path in paths)
    return frozenset(place.removeprefix(below) for place in places if place.startswith(below))


class Tree:
    """The data files of a project, or of a run's copy of it.

    Args:
        root: its folder.
        listed: gives the names of the files that travel, where `root` is the project's own folder.
        store: the folder of a local store, whose own files are none; "" if it is elsewhere.
        inputs: the names of those that count by themselves.
    """

    def __init__(
        self, root: Path, listed: Callable[[], Iterable[str]] = tuple, store: str = "", inputs: Collection[str] = ()
    ) -> None:
        self.root, self.inputs = root, frozenset(inputs)
        self._listed, self._store = listed, store

    def beside(self, inputs: Iterable[str]) -> Tree:
        """The same with these inputs."""
        other = copy.copy(self)
        other.inputs = frozenset(inputs)
        return other

    @functools.cached_property
    def noted(self) -> dict[str, str] | None:
        """Of a run's copy, every file that travelled -> digest; None in the project's own folder."""
        note = self.root / FILES_NOTE
        return json.loads(note.read_bytes()) if note.is_file() else None

    @property
    def kind(self) -> str:
        """TRAVELLING or HERE: which files the code that runs here may read."""
        return HERE if self.noted is None else TRAVELLING

    def names(self, kind: str) -> list[str] | None:
        """Those of all of them, sorted; None if there are more than MOST_FILES."""
        return self._travelling if kind == TRAVELLING else self._here

    def digest(self, name: str) -> str | None:
        """16 hex digits for the names of `kind`, or, for ``kind/x.json``, of those that end so; None for too many."""
        kind, _, end = name.partition("/")
        return self.digest_names(self.names(kind), end)

    def digest_names(self, names: Iterable[str] | None, end: str = "") -> str | None:
        """16 hex digits for those of the names that are no inputs, and that end with this path; None for too many."""
        if names is None:
            return None
        found = (name for name in names if name not in self.inputs and (not end or f"/{name}".endswith(f"/{end}")))
        return hashlib.sha256("\0".join(found).encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]

    @functools.cached_property
    def _travelling(self) -> list[str]:
        return sorted(filter(is_data, self._listed() if self.noted is None else self.noted))

    @functools.cached_property
    def _here(self) -> list[str] | None:
        found: list[str] = []
        seen = 0
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(
                f
                for f in folders
                if f not in SKIPPED and not f.startswith(".") and not self._is_stores(os.path.join(folder, f))
            )
            seen += len(names)
            if seen > MOST_FILES:
                return None
            places = [place for name in names if os.path.isfile(place := os.path.join(folder, name))]
            inside = [os.path.relpath(place, self.root) for place in places if not self._is_stores(place)]
            found += filter(is_data, inside)
        return sorted(found)

    def _is_stores(self, place: str) -> bool:
        return f"{place}{os.sep}".startswith(self._below) and is_own(Path(place).relative_to(self._store).parts)

    @functools.cached_property
    def _below(self) -> tuple[str, ...]:
        """How what lies in the store begins."""
        return (os.path.join(self._store, ""),) if self._store else ()
