"""Importing files that may have been edited a moment ago.

Python keeps compiled modules with the whole second and the size of their source: of two edits within a second that
leave the size, the second is not seen. A source that is so young is compiled anew, and not kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

#: Seconds for which a source is young.
_YOUNG_S = 3.0


class Loader(SourceFileLoader):
    """Python's own, but for young sources."""

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of a module, compiled from its source as it is now."""
        if time.time() - os.stat(self.path).st_mtime > _YOUNG_S:
            return super().get_code(fullname)
        return self.source_to_code(self.get_data(self.path), self.path)


class Finder:
    """Gives the modules below a folder that loader.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module below the folder, with the loader that does not trust the clock of a young source."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        if not Path(spec.loader.path).is_relative_to(self._root):
            return None
        spec.loader = Loader(fullname, spec.loader.path)
        return spec
