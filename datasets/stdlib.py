"""The source files of the interpreter's standard library: about 1,800 files, 30 MB of Python.

Columns: path (below the library's folder, with '/'), text. In the order of the paths, in shards of about 4 MiB.

The files are packed once, into the store. Whatever Python a worker runs later, all read the same text.
"""

from __future__ import annotations

import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from runner import Dataset

SHARD_BYTES = 4 << 20
#: Installed packages lie inside the library's folder, but are not part of it.
NOT_LIBRARY = {"site-packages", "dist-packages"}


def make() -> Iterator[pa.Table]:
    """A table of paths and texts whenever SHARD_BYTES have come together."""
    paths: list[str] = []
    texts: list[str] = []
    size = 0
    for path, text in sources(Path(sysconfig.get_paths()["stdlib"])):
        paths.append(path)
        texts.append(text)
        size += len(text)
        if size >= SHARD_BYTES:
            yield pa.table({"path": paths, "text": texts})
            paths, texts, size = [], [], 0
    if paths:
        yield pa.table({"path": paths, "text": texts})


def sources(folder: Path) -> Iterator[tuple[str, str]]:
    """(path, text) of every source file below `folder` that can be decoded, in the order of the paths."""
    files = {path.relative_to(folder): path for path in folder.rglob("*.py")}
    for relative in sorted(files, key=lambda path: path.as_posix()):
        if NOT_LIBRARY.isdisjoint(relative.parts) and files[relative].is_file():
            try:
                with tokenize.open(files[relative]) as file:  # heeds the file's own '# coding:' line
                    yield relative.as_posix(), file.read()
            except (SyntaxError, UnicodeDecodeError):
                continue  # four files of the library's tests are broken on purpose


dataset = Dataset(make=make)
