"""What a stage's functions are made of: everything of the user's that they reach, part by part, as hashes.

The parts decide whether a result can be used again. They are taken from the syntax, so comments and layout do not
count, and only from what the functions reach, so editing the training function does not run data preparation again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.code import optimized, references
from runner.code.dependencies import name_of_module
from runner.code.references import FunctionRef
from runner.code.slicing.files import Finder
from runner.code.slicing.reach import Slice
from runner.code.slicing.syntax import every_import
from runner.code.slicing.values import Values
from runner.process.code_root import is_installed, is_outside


@dataclass(frozen=True)
class Identity:
    """The code behind functions.

    Args:
        parts: what they reach, such as ``jobs/a.py:clean`` -> 12 hex digits; and the level of `python -O`, if any.
        modules: those that were looked at: the project's by their labels, others as `dependencies.name_of_module`.
        mentions: files of the project that are no modules, and that the code names in strings.
        packages: top-level names of what it imports from elsewhere.
        looked_for: ends of paths of files that need not be there.
        variables: of the environment that it reads.
    """

    parts: dict[str, str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    mentions: frozenset[Path] = frozenset()
    packages: frozenset[str] = frozenset()
    looked_for: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()

    @property
    def hash(self) -> str:
        """16 hex digits for all of it."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:16]


def identify(functions: Sequence[Any], root: Path | None = None, config: Any = None) -> Identity:
    """What functions reach.

    Args:
        functions: functions, classes or references; their order counts.
        root: the project's folder; the process's code root by default.
        config: the JSON of a job's config (see `config`): the code of its classes counts, their fields do not.
    """
    root = (root or references.code_root() or Path.cwd()).resolve()
    reached = Slice(root)
    values = Values(reached)
    named = [_add(function, reached, values) for function in functions]
    for cls in _references(config):
        _add_config(cls, reached, values)
    parts = {**reached.parts(), **values.parts, "functions": ", ".join(named)}
    if optimized.level():
        parts["python -O"] = str(optimized.level())
    packages = frozenset(reached.packages - {"runner"} - sys.stdlib_module_names)
    modules = frozenset(_label(path, reached.finder) for path in reached.files)
    return Identity(
        parts,
        modules,
        frozenset(reached.mentions()),
        packages,
        frozenset(reached.looked_for()),
        frozenset(reached.variables()),
    )


def code_hash(function: Any, root: Path | None = None) -> str:
    """16 hex digits for the code behind `function`; see `identify`."""
    return identify([function], root).hash


def project_files(start: Iterable[Path], root: Path) -> set[Path]:
    """`start` and every file below `root` that they import, directly or through others, wherever an import stands."""
    root = root.resolve()
    finder, found = Finder(root), set()
    waiting = [Path(os.path.abspath(path)) for path in start]  # a link in the project is where it is seen
    while waiting:
        path = waiting.pop()
        if path not in found and path.is_file():
            found.add(path)
            waiting.extend(file for file in _imported(path, finder) if file.is_relative_to(root))
    return found


def modules_elsewhere(files: Iterable[Path], functions: Iterable[FunctionRef], root: Path) -> dict[str, Path]:
    """Top-level name -> the folder in which it lies, of the user's modules outside the project that code imports.

    Args:
        files: of the code; theirs are not followed further.
        functions: of which those of a notebook are looked into.
    """
    reached = Slice(root.resolve())
    values = Values(reached)
    for function in functions:
        if function.value is not None:
            values.add(_unpickled(function.value))
    finder = reached.finder
    imported = {file for path in files if path.suffix == ".py" for file in _imported(path, finder)}
    found = {}
    for path in {*reached.files, *imported}:
        if is_outside(path, finder.root) and not is_installed(path):
            base = finder.base(path)
            found[path.relative_to(base).parts[0].split(".")[0]] = base
    return found


def _imported(path: Path, finder: Finder) -> Iterator[Path]:
    """The files that the imports of a file run, wherever they stand in it."""
    for each in every_import(path):
        whole = (*each.module, each.attribute) if each.attribute not in (None, "*") else each.module
        dotted = tuple(str(part) for part in whole)
        modules = finder.relative(each.level, dotted, path) if each.level else finder.find(dotted, path)
        for one in modules:
            yield from one.executed


def _add(function: Any, reached: Slice, values: Values) -> str:
    """Take what a function reaches. Returns its name."""
    ref = references.reference(function, reached.root, "a function")
    if ref.value is not None:
        values.add(_unpickled(ref.value))
    elif ref.file is not None:
        reached.add(reached.root / ref.file, ref.name.split(".")[0])
    else:
        reached.add_module(tuple(str(ref.module).split(".")), ref.name.split(".")[0])
    return str(ref)


def _label(path: Path, finder: Finder) -> str:
    label = finder.label(path)
    return name_of_module(label) if is_outside(path, finder.root) else label


def _add_config(ref: FunctionRef, reached: Slice, values: Values) -> None:
    if ref.value is not None:
        values.add_config(_unpickled(ref.value))
        return
    path = reached.root / ref.file if ref.file is not None else None
    reached.add_config(path, tuple(str(ref.module or "").split(".")), ref.name.split(".")[0])


def _references(value: Any) -> Iterator[FunctionRef]:
    """The classes of the objects in the JSON of a config."""
    if isinstance(value, dict):
        cls = value.get("class")
        if isinstance(cls, dict) and cls.get("kind") == "FunctionRef":
            yield FunctionRef(**{key: part for key, part in cls.items() if key != "kind"})
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def _unpickled(value: str) -> Any:
    import base64

    import cloudpickle

    return cloudpickle.loads(base64.b64decode(value))
