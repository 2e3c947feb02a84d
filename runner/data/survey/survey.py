"""Everything about data that can be known or measured without reading all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.data.manifest import UNCOUNTED, Manifest
from runner.data.survey.columns import Checks, ColumnFacts, checks, column_facts
from runner.data.survey.rates import Encoded, Rates, encoded, measured
from runner.data.survey.rows import Looked, manifest_of
from runner.data.survey.sample import sampled
from runner.data.survey.units import UnitFacts, unit_facts

#: Decoded bytes of the sample that is measured.
SAMPLE_BYTES = 48 << 20
#: Lines up to this size are read once, so that rows are counted and types are certain.
_COUNTED_BYTES = 256 << 20


@dataclass(frozen=True)
class Survey:
    """Data.

    Args:
        format: of the files, which are `files` with `bytes`.
        rows: None where lines were not counted.
        columns: facts of each, from `footers` files.
        rates, encoded: measured on a sample; None where there are no rows.
    """

    base: str
    format: str
    files: int
    bytes: int
    rows: int | None
    units: UnitFacts
    columns: tuple[ColumnFacts, ...]
    footers: int
    checks: Checks
    rates: Rates | None
    encoded: Encoded | None


def survey(looked: Looked, columns: Sequence[str] | None = None, sample_bytes: int = SAMPLE_BYTES) -> Survey:
    """Look at data and measure a sample of it.

    Args:
        columns: the only ones that are looked at and measured; None: all.
        sample_bytes: decoded, of the sample.

    Raises:
        DataError: it cannot be read.
    """
    manifest = manifest_of(looked, _COUNTED_BYTES)
    if columns is not None:
        manifest = manifest.select(columns)
    facts, footers = column_facts(manifest)
    some = manifest.rows != 0 and manifest.units
    sample = sampled(manifest, sample_bytes) if some else None
    return Survey(
        manifest.base,
        manifest.shards[0].format,
        len(manifest.shards),
        manifest.bytes,
        None if manifest.rows == UNCOUNTED else manifest.rows,
        unit_facts(manifest),
        facts,
        footers,
        checks(manifest),
        *((None, None) if sample is None else _measured(sample)),
    )


def _measured(sample: Manifest) -> tuple[Rates, Encoded | None]:
    """Rates of a sample, and of a trial that is encoded anew: decoding is as fast as the faster of two measurements."""
    rates, trial = measured(sample), encoded(sample)
    if trial is None or trial.beside is None or rates.decode is None:
        return rates, trial
    return replace(rates, decode=max(rates.decode, trial.beside)), trial
