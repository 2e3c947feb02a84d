"""The code that a run has brought: its archive, as it was sealed, as files again."""

from __future__ import annotations

from pathlib import Path

from runner.code import archive
from runner.record.bundle import Bundle


def unpack(bundle: Bundle, folder: Path) -> None:
    """The project's files of a run, as they were at submission or at the resume that brought newer ones.

    Raises:
        StoreBroken: the archive is none, is larger than one may be, or has a file that would lie outside of `folder`.
            Nothing was written.
    """
    key = bundle.newest_code()
    archive.unpack(bundle.read_sealed(key), folder, bundle.store.path(key))
