"""What a stream sees of its data: all of it, or what a filter and the packing of documents make of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from runner.data.manifest import Manifest
from runner.data.stream.views.filters import Filter, Filtered, split
from runner.data.stream.views.packed import Packed
from runner.data.stream.views.viewed import viewed
from runner.errors import SpecError
from runner.spec.packing import Pack

#: A share of packed rows that is worth a word.
_MUCH_PADDING = 0.2

_log = logging.getLogger(__name__)


def seen(source: Manifest, keep: Filter = None, pack: Pack | None = None) -> Manifest:
    """The manifest of the rows that are left, and then of the packed ones.

    Raises:
        SpecError: an argument is none.
        DataError: a column is not there or of another type, a unit cannot be read, or no row is left.
    """
    if keep is not None:
        source = viewed(source, Filtered(keep, source))
    if pack is not None:
        packed = Packed(pack, source)
        made = viewed(source, packed)
        _tell_of_padding(packed.padding(made), source.base)
        return made
    return source


def _tell_of_padding(share: float, where: str) -> None:
    if share > _MUCH_PADDING:
        _log.warning(
            "%s: %.0f %% of the packed rows is padding, for each unit ends with a row that is filled up; larger row "
            "groups have less",
            where,
            100 * share,
        )


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
