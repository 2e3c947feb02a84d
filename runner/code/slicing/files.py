"""Where the modules that code imports lie, and whose they are: the project's, installed, or found elsewhere.

What counts as the user's code is decided by where a file lies, not by how it came there: below the project's folder, or
anywhere outside site-packages and the standard library (a library installed in editable form, a folder on PYTHONPATH).
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.process.code_root import ENVIRONMENTS, OUTSIDE, Folders, is_installed, is_outside

#: Folders in which nobody's own modules lie.
SKIPPED = {"__pycache__", "node_modules", "venv", "build", "dist", *ENVIRONMENTS}
_ENDINGS = (".py", *importlib.machinery.EXTENSION_SUFFIXES, ".pyc")


@dataclass(frozen=True)
class Found:
    """A module, as far as its dotted name leads to files of the user's.

    Args:
        executed: the files that an import of it runs, packages first.
        file: of the module itself; None for a namespace package.
        folder: of a package, where its submodules lie; None for a plain module.
        rest: the parts of the name that are no modules.
    """

    executed: tuple[Path, ...]
    file: Path | None
    folder: Path | None
    rest: tuple[str, ...]


class Finder:
    """Finds modules for code at `root`.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._noted = Folders.of(root)
        self._bases: dict[Path, Path] = {}  # file outside the root -> folder below which its dotted name begins
        self._held: dict[tuple[Path, str], bool] = {}
        self._nearby: dict[tuple[str, Path | None], tuple[Path, ...]] = {}
        self._outside: dict[str, tuple[Path, ...]] = {}
        self._index: dict[str, list[Path]] | None = None

    def label(self, path: Path) -> str:
        """A name for a file that is the same wherever the code lies; two that lie elsewhere may share one."""
        return path.relative_to(self.base(path)).as_posix()

    def base(self, path: Path) -> Path:
        """The project's folder, or of a file from elsewhere that in which its dotted name begins."""
        if not is_outside(path, self.root):
            return self.root
        brought = self.root / OUTSIDE
        return brought if path.is_relative_to(brought) else self._bases.get(path) or _outermost(path)

    def find(self, dotted: Sequence[str], importer: Path | None) -> list[Found]:
        """What `import a.b.c` in the file `importer` may load of the user's code; several where that is not sure."""
        if not dotted or dotted[0] == "runner":
            return []  # runner's own version is recorded in the lineage; it is not the user's code
        return [
            found for base in self._folders(dotted[0], importer) if (found := self._descend(base, dotted)) is not None
        ]

    def relative(self, level: int, dotted: Sequence[str], importer: Path) -> list[Found]:
        """As `find`, for an import with leading dots."""
        if level > len(importer.parents):
            return []
        folder = importer.parents[level - 1]
        base = _outermost(folder / "__init__.py")
        if base == folder:
            base = folder.parent  # a namespace package, or a script's folder
        found = self._descend(base, [*folder.relative_to(base).parts, *dotted])
        return [] if found is None else [found]

    def submodule(self, found: Found, name: str) -> Found | None:
        """A module of a package."""
        return None if found.folder is None else self._descend(found.folder, [name], self._base_of(found.folder))

    # -- folders -------------------------------------------------------------------------------------------------

    def _folders(self, top: str, importer: Path | None) -> list[Path]:
        """Where a top-level name may be: in the project, else wherever Python finds it, else deeper in the project."""
        near = self._near(top, None if importer is None else importer.parent)
        if near or top in sys.stdlib_module_names:
            return list(near)
        if top not in self._outside:
            self._outside[top] = tuple(self._elsewhere(top))
        return list(self._outside[top])

    def _near(self, top: str, beside: Path | None) -> tuple[Path, ...]:
        if (top, beside) not in self._nearby:
            first, *others = (self.root / folder for folder in ("", *self._noted.first, *self._noted.last, "src"))
            folders = (first, *others) if beside is None else (first, beside, *others)
            self._nearby[top, beside] = tuple(f for f in dict.fromkeys(folders) if self._holds(f, top))
        return self._nearby[top, beside]

    def _holds(self, folder: Path, top: str) -> bool:
        if (folder, top) not in self._held:
            self._held[folder, top] = any((folder / f"{top}{ending}").is_file() for ending in _ENDINGS) or (
                (folder / top).is_dir() and next((folder / top).glob("**/*.py"), None) is not None
            )
        return self._held[folder, top]

    def _elsewhere(self, top: str) -> Iterator[Path]:
        spec = spec_of(top)
        if spec is None:
            yield from self._deeper(top)
            return
        places = list(spec.submodule_search_locations or ())
        if spec.origin is not None and not places:
            places = [spec.origin]
        for place in map(Path, places):
            if is_installed(place.resolve()):
                continue
            if place.name == top or place.stem.split(".")[0] == top:
                yield Path(os.path.abspath(place)).parent

    def _deeper(self, top: str) -> list[Path]:
        """The folders nearest to the root that hold the name: some line of code will put them on sys.path."""
        if self._index is None:
            self._index = {}
            for folder, folders, names in os.walk(self.root):
                folders[:] = sorted(f for f in folders if f not in SKIPPED and not f.startswith("."))
                stems = {n[:-3] for n in names if n.endswith(".py")}
                for name in stems:
                    self._index.setdefault(name, []).append(Path(folder))
                if stems:
                    self._index.setdefault(Path(folder).name, []).append(Path(folder).parent)
        found = self._index.get(top, [])
        least = min((len(folder.parts) for folder in found), default=0)
        return [folder for folder in dict.fromkeys(found) if len(folder.parts) == least]

    # -- files ---------------------------------------------------------------------------------------------------

    def _descend(self, base: Path, dotted: Sequence[str], top: Path | None = None) -> Found | None:
        here, file, executed = base, None, []
        for number, part in enumerate(dotted):
            module = next((here / f"{part}{e}" for e in _ENDINGS if (here / f"{part}{e}").is_file()), None)
            package = here / part
            if package.is_dir() and ((package / "__init__.py").is_file() or module is None):
                here = package
                file = here / "__init__.py" if (here / "__init__.py").is_file() else None
                executed += [file] if file is not None else []
            elif module is not None:
                self._remember([*executed, module], top or base)
                return Found((*executed, module), module, None, tuple(dotted[number + 1 :]))
            else:
                self._remember(executed, top or base)
                return None if number == 0 else Found(tuple(executed), file, here, tuple(dotted[number:]))
        self._remember(executed, top or base)
        return Found(tuple(executed), file, here, ())

    def _remember(self, files: Sequence[Path], base: Path) -> None:
        for file in files:
            if not file.is_relative_to(self.root):
                self._bases.setdefault(file, base)

    def _base_of(self, folder: Path) -> Path:
        return self._bases.get(folder / "__init__.py", folder)


def _outermost(path: Path) -> Path:
    """The folder in which the dotted name of a module begins."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder


def spec_of(top: str) -> importlib.machinery.ModuleSpec | None:
    """What Python's finders say of a top-level name, whatever this process has loaded under it."""
    for finder in sys.meta_path:
        with contextlib.suppress(ImportError, AttributeError, ValueError):
            spec = finder.find_spec(top, None)
            if spec is not None:
                return spec
    return None
