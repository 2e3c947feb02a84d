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
        found = {}
        for name, module in list(sys.modules.items()):
            if name in self._of_others:
                continue
            file = getattr(module, "__file__", None)
            path = Path(file) if isinstance(file, str) and file.endswith(".py") and name != "__main__" else None
            inside = path is not None and not is_outside(path, root)
            if path is None or not self._is_users(name, path, inside):
                self._of_others.add(name)
                continue
            label = dependencies.name_of(path, root) if inside else dependencies.name_of_module(name.replace(".", "/"))
            if label in known or f"{label}.py" in known or f"{label}/__init__.py" in known:
                continue
            named = label if inside else dependencies.name_of_module(name)
            found[named] = dependencies.digest(named, root)
        return found

    def _is_users(self, name: str, path: Path, inside: bool) -> bool:
        """Whether a module is the project's, or one from elsewhere that came since."""
        if is_installed(path) or not (inside or name not in self._before):
            return False
        return inside or not is_installed(path.resolve())
