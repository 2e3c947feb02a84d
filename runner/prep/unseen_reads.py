"""What is read where no hook of this process sees it: by libraries of C, by children, in processes elsewhere.

Where the machine tells which files are opened (see `opened`), those of the project count. Where nothing tells,
every data file of the project counts. And as nobody sees which files a child has looked for that were not there, it
counts which there are as soon as one has been started.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from runner.code import dependencies
from runner.code.data_files import Tree, is_data
from runner.code.dependencies import CHANGED, digest
from runner.prep.opened_files import Opened

#: Files of a project's own folder that are read to say what they are; others go by size and time.
_LARGEST, _MOST_BYTES = 8 << 20, 256 << 20


class ByOthers:
    """What a stage's code reads where no hook of this process sees it.

    Args:
        late: the user's modules had been loaded before: nobody saw what they read then.
    """

    def __init__(self, late: bool) -> None:
        self._everything = late  # what nobody could watch has read
        self._watch: Opened | None = None
        self._tree: Tree | None = None
        self._kind: str | None = None
        self._names: list[str] | None = None  # of the data files that there were, if that counts
        self._before: dict[str, tuple[str, str]] = {}  # see `_digests`, if all of them count
        self._seen: dict[str, str | None] = {}  # path -> name of a data file, None of others: each task asks for all
        self._changed: set[str] = set()

    def begin(self, tree: Tree, elsewhere: bool) -> None:
        """From now on the user's code runs.

        Args:
            tree: what it may read.
            elsewhere: also where this process's machine does not tell.
        """
        if self._tree is None or self._tree.root != tree.root:
            self._watch = _watch(tree.root)
            self._seen = {path: _data_name(path, tree.root) for path in self._seen}
        elif self._watch is not None:
            self._watch.take()  # what others have opened meanwhile is not the user's code's
        self._tree = tree
        self._everything = self._everything or elsewhere
        if self._everything:
            self._note()

    def child(self) -> None:
        """A child is about to be started."""
        self._everything = self._everything or self._watch is None
        self._note()

    def deps(self, is_known: Callable[[str], bool]) -> dict[str, str]:
        """Name -> digest.

        Args:
            is_known: whether a file has been seen otherwise, or does not count.
        """
        tree = self._tree
        if tree is None:
            return {}
        self._look()
        if self._everything:
            return self._unseen(tree)  # all that was opened is among them
        found = self._unseen(tree)
        for path, name in self._seen.items():
            if name is not None and name not in tree.inputs and not is_known(path):
                found.update(_opened(tree, path, name, changed=path in self._changed))
        return found

    def _look(self) -> None:
        """Of what has been opened before it was changed, the old content may have been read."""
        events = self._watch.take() if self._watch is not None else ()
        if events is None:
            self._everything = True
            self._note()
        assert self._tree is not None
        for path, is_change in events or ():
            if is_change:
                self._changed.add(path)
            elif path not in self._changed and path not in self._seen:
                self._seen[path] = _data_name(path, self._tree.root)

    # -- what nobody sees ----------------------------------------------------------------------------------------

    def _note(self) -> None:
        """Keep what is there, as it is before anything of it can be changed."""
        if self._tree is None:
            return
        if self._kind is None:
            self._kind, self._names = self._tree.kind, self._tree.names(self._tree.kind)
        if self._everything and not self._before:
            self._before = _digests(self._tree)

    def _unseen(self, tree: Tree) -> dict[str, str]:
        """What was kept, if it still is so."""
        if self._kind is None:
            return {}
        found = {self._kind: tree.digest_names(self._names) or CHANGED}
        for name, (shown, then) in self._before.items():
            if name not in tree.inputs:
                same = tree.noted is not None or digest(shown, tree.root) == then
                found[shown] = then if same else CHANGED
        return found


def _data_name(path: str, root: Path) -> str | None:
    """The name of a file that may be read as data; None of another."""
    name = dependencies.name_of(path, root)
    return name if is_data(name) else None


def _watch(root: Path) -> Opened | None:
    try:
        return Opened(root)
    except OSError:
        return None


def _opened(tree: Tree, path: str, name: str, *, changed: bool) -> dict[str, str]:
    """The dependencies of who has opened a file: itself, and which there are beside it that end as it does."""
    alike, ending = dependencies.name_of_alike(path, tree.root), os.path.splitext(path)[1]
    if tree.noted is None:
        return {name: CHANGED if changed else digest(name, tree.root), alike: digest(alike, tree.root)}
    if name not in tree.noted:
        return {}  # the run itself has made it
    folder = f"{os.path.dirname(name)}/".removeprefix("/")
    beside = {other.removeprefix(folder).split("/")[0] for other in tree.noted if other.startswith(folder)}
    return {name: tree.noted[name], alike: dependencies.digest_names(beside, ending)}


def _digests(tree: Tree) -> dict[str, tuple[str, str]]:
    """Name of every data file -> (dependency, digest); size and time stand for what is too much to read here."""
    names = tree.names(tree.kind) or ()
    if tree.noted is not None:
        return {name: (name, tree.noted[name]) for name in names}
    found: dict[str, tuple[str, str]] = {}
    left = _MOST_BYTES
    for name in names:
        path = tree.root / name
        size = path.stat().st_size if path.is_file() else 0
        left -= size if size <= _LARGEST else 0
        shown = name if size <= _LARGEST and left >= 0 else dependencies.name_of_stamp(path, tree.root)
        found[name] = shown, digest(shown, tree.root)
    return found
