"""The user's modules that lie outside the project, where only this process finds them: ``sys.path.append("/lib")``.

On this machine the run's processes are told the folders; to others the modules travel, each package with the files that
it has. What any process of the environment finds by itself (an editable install; here also `PYTHONPATH`) is left to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from runner.code.listing import listed_files
from runner.process.code_root import is_installed
from runner.store.credentials import is_file_of_secrets

_ASK = """
import importlib.util, json, sys
found = {}
for name in sys.argv[1:]:
    spec = importlib.util.find_spec(name)
    if spec is not None:
        found[name] = [*(spec.submodule_search_locations or ()), spec.origin or ""]
print(json.dumps(found))
"""


def only_here(modules: Mapping[str, Path], *, remote: bool) -> dict[str, Path]:
    """Those that a process which is started in this environment does not find where this one does.

    Args:
        modules: top-level name -> the folder in which it lies.
        remote: it is started on another machine, which has another `PYTHONPATH`.
    """
    if not modules:
        return {}
    command = [sys.executable, "-P", "-c", _ASK, *modules]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or not remote}
    done = subprocess.run(command, env=environment, cwd="/", stdout=subprocess.PIPE, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return {top: base for top, base in modules.items() if not any(_lies(place, base) for place in found.get(top, ()))}


def _lies(place: str, base: Path) -> bool:
    path = Path(os.path.abspath(place))
    return bool(place) and (path.parent == base or (path.name == "__init__.py" and path.parent.parent == base))


def path_entries(bases: Iterable[Path]) -> tuple[list[str], list[str]]:
    """These folders as this process has them on its path: those before the environment's own packages, those after."""
    wanted = set(bases)
    first = next((n for n, entry in enumerate(sys.path) if Path(entry).name in ("site-packages", "dist-packages")), 0)
    found: tuple[list[str], list[str]] = ([], [])
    for number, entry in enumerate(sys.path):
        if Path(os.path.abspath(entry)) in wanted and not is_installed(Path(entry)):
            found[number > first].append(os.path.abspath(entry))
    return found


def files_of(top: str, base: Path) -> dict[str, Path]:
    """The files of a top-level module, by their names below `base`."""
    folder = base / top
    if not folder.is_dir():
        return {path.name: path for path in base.glob(f"{top}.*") if path.suffix in (".py", ".so", ".pyd")}
    inside = (path for path in listed_files(folder) if not is_file_of_secrets(path))
    return {f"{top}/{path.as_posix()}": folder / path for path in inside}
