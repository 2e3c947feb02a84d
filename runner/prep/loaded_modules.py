"""The modules that a process has loaded: which are the user's, and which came since it began to watch."""

from __future__ import annotations

import sys
from pathlib import Path

from runner.code import dependencies
from runner.process.code_root import is_installed, is_outside

#: What runner imports by itself while the user's code runs: the latter when a store does not answer.
_OURS = {"runner", "tenacity"}


class LoadedModules:
    """What `sys.modules` has gained since this was made."""

    def __init__(self) -> None:
        self._before = set(sys.modules)
        self._of_others: set[str] = set()  # modules that are not the user's; there are thousands
        self._asked: tuple[Path, frozenset[str]] | None = None  # what these are of:
        self._named: dict[str, str | None] = {}  # of the user's: module -> dependency, None where its code counts

    def packages(self) -> list[str]:
        """The top-level names of what was imported since, and is neither the user's nor Python's."""
        fresh = {name.split(".")[0] for name in set(sys.modules) - self._before}
        return sorted(name for name in fresh - sys.stdlib_module_names - _OURS if not name.startswith("_"))

    def deps(self, root: Path, known: frozenset[str]) -> dict[str, str]:
        """Name -> digest of those that were loaded though the code did not say so in a way that could be followed.

        Args:
            root: the project's folder.
            known: labels of the modules whose code counts already.
        """
        if (root, known) != self._asked:
            self._asked, self._named = (root, known), {}
        for name in sys.modules.keys() - self._of_others - self._named.keys():
            self._look(name, sys.modules.get(name), root, known)
        return {named: dependencies.digest(named, root) for named in self._named.values() if named is not None}

    def _look(self, name: str, module: object, root: Path, known: frozenset[str]) -> None:
        file = getattr(module, "__file__", None)
        path = Path(file) if isinstance(file, str) and file.endswith(".py") and name != "__main__" else None
        inside = path is not None and not is_outside(path, root)
        if path is None or not self._is_users(name, path, inside):
            self._of_others.add(name)
            return
        label = dependencies.name_of(path, root) if inside else dependencies.name_of_module(name.replace(".", "/"))
        counts = label in known or f"{label}.py" in known or f"{label}/__init__.py" in known
        named = label if inside else dependencies.name_of_module(name)
        self._named[name] = None if counts else named

    def _is_users(self, name: str, path: Path, inside: bool) -> bool:
        """Whether a module is the project's, or one from elsewhere that came since."""
        if is_installed(path) or not (inside or name not in self._before):
            return False
        return inside or not is_installed(path.resolve())
