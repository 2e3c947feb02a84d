"""The package under which files of the user's are imported that Python would not find under their own names.

Such are ``jobs/v2.1.py``, and ``datasets/x.py`` where a package called `datasets` is installed. A child process that
unpickles something of such a file imports this package first, which is how it learns to find the file.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

from runner.process import code_root
from runner.process.fresh_source import Loader

__path__: list[str] = []
#: Of the project whose definitions are being loaded; None: the code root of the process.
root: Path | None = None


def name_of(inside: Path) -> str:
    """The name for a file, given relative to the root; dots within a part are escaped."""
    parts = [part.replace("%", "%25").replace(".", "%2E") for part in inside.with_suffix("").parts]
    return ".".join((__name__, *parts))


class Finder:
    """Finds the modules and packages below `root` under the names of this package."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A file of the user's, by the name that `name_of` gives its path."""
        top = root or code_root.code_root()
        if not fullname.startswith(f"{__name__}.") or top is None:
            return None
        place = top.joinpath(*map(unquote, fullname.removeprefix(f"{__name__}.").split(".")))
        if (place / "__init__.py").is_file():
            loader = Loader(fullname, str(place / "__init__.py"))
            return importlib.util.spec_from_file_location(
                fullname, loader.path, loader=loader, submodule_search_locations=[str(place)]
            )
        file = place.with_name(f"{place.name}.py")
        if file.is_file():
            return importlib.util.spec_from_file_location(fullname, file, loader=Loader(fullname, str(file)))
        if not place.is_dir():
            return None
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(place)]
        return spec


sys.meta_path.insert(0, Finder)
