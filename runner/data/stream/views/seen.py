"""What a stream sees of its data: all of it, or what a filter and the packing of documents make of it."""

from __future__ import annotations

from collections.abc import Sequence

from runner.data.manifest import Manifest
from runner.data.stream.views.filters import Filter, Filtered, split
from runner.data.stream.views.packed import Packed
from runner.data.stream.views.viewed import viewed
from runner.errors import SpecError
from runner.spec.packing import Pack


def seen(source: Manifest, keep: Filter = None, pack: Pack | None = None) -> Manifest:
    """The manifest of the rows that are left, and then of the packed ones.

    Raises:
        SpecError: an argument is none.
        DataError: a column is not there or of another type, a unit cannot be read, or no row is left.
    """
    if keep is not None:
        source = viewed(source, Filtered(keep, source))
    if pack is not None:
        source = viewed(source, Packed(pack, source))
    return source


def asked(columns: Sequence[str] | None, keep: Filter = None, pack: Pack | None = None) -> list[str] | None:
    """The only columns of the files that anybody looks at; None: that is not known beforehand, or all of them.

    Raises:
        SpecError: an argument is none.
    """
    if pack is not None and not isinstance(pack, Pack):
        raise SpecError(f"pack={pack!r}", allowed="Pack('tokens', length=4096)", where="Stream")
    looks_at = split(keep)[1] if keep is not None else ()
    wanted = columns if pack is None else pack.columns
    return None if wanted is None or looks_at is None else list(dict.fromkeys([*wanted, *looks_at]))
