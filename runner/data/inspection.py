"""Listed files looked at, many at a time: small ones of this machine are read once, and together if they are alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from runner.data.files.listing import SMALL_BYTES, SourceFile, with_hash
from runner.data.files.opening import filesystem, is_local, is_remote
from runner.data.files.small import contents, md5
from runner.data.files.tasks import in_tasks, in_tasks_if_waiting
from runner.data.footers import Footers
from runner.data.formats import formats
from runner.data.formats.base import Alike, Inspected, Look
from runner.data.shards import packed

#: Files that are looked at at the same time, and of tiny ones on this machine's disks, of which Python has most to do.
_THREADS, _THREADS_TINY = 16, 4
#: Files that are looked at together, at most.
_TOGETHER = 64

#: A file's hash, units and schema, and its footer where that is kept.
_Found = tuple[str, Inspected, bytes | None]


def inspected(
    files: Sequence[SourceFile], format: str, ask: Callable[[SourceFile], Look]
) -> tuple[list[str], list[Inspected], Footers]:
    """Hash, units and schema of each file, and the footers of Parquet files of other machines.

    Args:
        format: of all of them.
        ask: says what is asked of each.

    Raises:
        DataError: of the first file that is corrupt, of another format, or cannot be read; the URL is named.
    """
    looking = _Looking(files, format, ask)
    found = looking.until_shown() if looking.is_tiny else []
    rest, step = files[len(found) :], _TOGETHER if looking.is_tiny else 1  # others are waited for side by side
    parts = [rest[start : start + step] for start in range(0, len(rest), step)]
    run, threads = (in_tasks_if_waiting, _THREADS_TINY) if looking.is_tiny else (in_tasks, _THREADS)
    for some in run(looking.together, parts, threads):
        found += some
    footers = Footers()
    for file, (_, _, footer) in zip(files, found, strict=True):
        if footer is not None:
            footers.add(file, footer)
    return [tag for tag, _, _ in found], [one for _, one, _ in found], footers


class _Looking:
    def __init__(self, files: Sequence[SourceFile], format: str, ask: Callable[[SourceFile], Look]) -> None:
        self._files, self._format, self._ask = files, format, ask
        first, self._options = files[0], ask(files[0]).options
        self._is_away = is_remote(first.url, self._options)
        is_here = is_local(filesystem(first.url, self._options)[0])
        self._base = (first.url.removesuffix("/" + first.path) or "/") if is_here else None
        self.is_tiny = is_here and sum(file.size for file in files) <= SMALL_BYTES * len(files)
        self._alike: Alike | None = None

    def until_shown(self) -> list[_Found]:
        """The first files, up to one that shows what others may be like."""
        found: list[_Found] = []
        for file in self._files:
            data = self._contents([file])[0]
            found.append(self._alone(file, data))
            if found[-1][1][1] is not None:
                asked = self._ask(file)
                self._alike = formats.READERS[self._format].alike(asked, found[-1][1]) if data is not None else None
                if self._alike is not None and data is not None:
                    self._alike.learn(data, found[-1][1])
                break
        return found

    def together(self, files: Sequence[SourceFile]) -> list[_Found]:
        """The files of one task."""
        read = self._contents(files)
        known: dict[int, Inspected] = {}
        if self._alike is not None:
            some = [(i, data) for i, data in enumerate(read) if data is not None]
            looked = self._alike.look([files[i] for i, _ in some], [data for _, data in some])
            known = {i: (packed(one[0]), one[1]) for (i, _), one in zip(some, looked, strict=True) if one is not None}
        found: list[_Found] = []
        for i, (file, data) in enumerate(zip(files, read, strict=True)):
            if data is not None and i in known:
                found.append((file.etag or md5(data), known[i], None))
                continue
            found.append(self._alone(file, data))
            if self._alike is not None and data is not None:
                self._alike.learn(data, found[-1][1])
        return found

    def _contents(self, files: Sequence[SourceFile]) -> list[bytes | None]:
        return contents(self._base, files) if self._base is not None else [None] * len(files)

    def _alone(self, file: SourceFile, data: bytes | None) -> _Found:
        if not file.etag:
            file = with_hash(file, self._options) if data is None else replace(file, etag=md5(data))
        kept: list[bytes] = []
        asked = replace(self._ask(file), data=data, keep=kept.append if self._is_away else None)
        units, schema = formats.looked(asked, self._format)
        return file.etag, (packed(units), schema), kept[0] if kept else None
