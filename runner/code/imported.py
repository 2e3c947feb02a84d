"""What this process has imported of a project, and from which of its folders."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from runner.code import isolation
from runner.code.modules import inside_of
from runner.errors import ProjectError
from runner.process.code_root import Folders, is_installed, is_source_folder


def imported_files(root: Path) -> set[Path]:
    """The files of the project's modules, compiled ones too, relative to its root."""
    return {inside for _, inside in _imported(root) if (root / inside).is_file()}


def import_folders(root: Path, entries: Iterable[Path] = ()) -> Folders:
    """The folders of the project from which modules are imported, in the order in which this process looks there.

    Args:
        entries: files of the job's functions, relative to the root, which this process need not have loaded.
    """
    loners = (entry.parent for entry in entries if not (root / entry.parent / "__init__.py").exists())
    last = isolation.last_folders() | {_shown(folder) for folder in loners}
    first: list[str] = []
    for entry in sys.path:
        inside = inside_of(Path(entry or ".") / "x", root)
        if inside is not None and not is_installed(root / inside) and _shown(inside.parent) not in last:
            first.append(_shown(inside.parent))
    if "" not in first:
        first.append("")
    if is_source_folder(root / "src"):
        first.append("src")
    # Found by an import hook of an editable install; in the folder of a job file nothing is found before all else.
    first += [folder for folder in map(_shown, sorted(_bases(root))) if folder not in last]
    return Folders(tuple(dict.fromkeys(first)), tuple(sorted(last - set(first))), str(root))


def refuse_shadowed(files: Iterable[Path], root: Path) -> None:
    """Raise ProjectError where a module imports one of the project's that is called like one of Python's own.

    In workers Python's own come first: what imports them must not get the user's.
    """
    first = [root / folder for folder in import_folders(root).first]
    for inside in sorted(files):
        for name in _imports(root / inside) if inside.suffix == ".py" else ():
            hidden = _module_file(name, first) if name in sys.stdlib_module_names else None
            if hidden is not None:
                raise ProjectError(
                    f"{inside} imports '{name}', and there is a {hidden.relative_to(root)} in the project",
                    allowed="modules that are not called like one of the standard library",
                    todo=f"rename {hidden.relative_to(root)}",
                    where=f"project {root}",
                )


def _module_file(name: str, folders: list[Path]) -> Path | None:
    files = (file for folder in folders for file in (folder / f"{name}.py", folder / name / "__init__.py"))
    return next((file for file in files if file.is_file()), None)


def _imported(root: Path) -> Iterator[tuple[str, Path]]:
    for name, module in isolation.modules_of(root).items():
        file = getattr(module, "__file__", None)
        inside = inside_of(Path(file), root) if isinstance(file, str) else None
        if inside is not None:
            yield name, inside


def _bases(root: Path) -> Iterator[Path]:
    """The folders in which the dotted names of the imported modules begin."""
    for name, inside in _imported(root):
        parts = inside.with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        dotted = tuple(name.split("."))
        if parts[-len(dotted) :] == dotted:
            yield Path(*parts[: -len(dotted)])


def _imports(file: Path) -> set[str]:
    """The top-level names of what the file imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


def _shown(folder: Path) -> str:
    return "" if folder == Path() else folder.as_posix()
