"""What a survey of data means: what limits its reading, and what would help, in plain sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runner.views import units

if TYPE_CHECKING:
    from runner.data.survey.survey import Survey

#: Files and units below these sizes are many requests, footers and tasks for few bytes ...
_TINY_FILE, _SMALL_UNIT = 1 << 20, 256 << 10
#: ... where there are so many.
_MANY = 64
#: Decoded bytes of a unit from which on it is held in parts, or goes through a temporary file; and of a page, which is
#: in memory as a whole.
_LARGE_UNIT, _LARGE_PAGE = 64 << 20, 8 << 20
_OF_UNITS = {"large units", "large pages", "small units"}
#: Times as fast that a stream must become to be worth a run, and decoding: trials of the same encoding differ by up
#: to 0.3 on a busy machine.
_PAYS, _DECODE_PAYS = 1.15, 1.5
#: The share of a stream's work from which on it is what limits.
_MOST_OF_IT = 0.5


@dataclass(frozen=True)
class Limit:
    """What keeps data from being read faster.

    Args:
        what: network, decode, copy, small files, small units, large units, large pages.
        words: why.
    """

    what: str
    words: str


@dataclass(frozen=True)
class Advice:
    """What helps, and the words of the command that does it; none where there is none."""

    words: str
    command: tuple[str, ...] = ()


def is_measured(survey: Survey) -> bool:
    """Whether there was enough data to measure."""
    from runner.data.survey.rates import LEAST_BYTES  # it brings pyarrow

    return survey.rates is not None and survey.rates.decoded >= LEAST_BYTES


def factor(survey: Survey) -> float | None:
    """Times as fast as now that one thread would decode the data if it were written anew."""
    if survey.encoded is None or survey.rates is None or survey.rates.decode is None or not is_measured(survey):
        return None
    return survey.encoded.decode / survey.rates.decode


def stream_factor(survey: Survey) -> float | None:
    """Times as fast as now that a stream would be, if what it does besides decoding stays as it is."""
    times, share = factor(survey), decode_share(survey)
    return None if times is None or share is None else 1 / (1 - share + share / times)


def decode_share(survey: Survey) -> float | None:
    """Which part of a stream's work, from 0 to 1, decoding is."""
    rates = survey.rates
    if rates is None or rates.decode is None or not rates.stream_cpu:
        return None
    return min(1.0, 1 / (rates.decode * rates.stream_cpu))


def size_factor(survey: Survey) -> float | None:
    """Bytes that the files would have for each byte that they have now."""
    if survey.encoded is None or survey.rates is None or not survey.rates.stored or not is_measured(survey):
        return None
    return (survey.encoded.stored / survey.encoded.decoded) / (survey.rates.stored / survey.rates.decoded)


def limits(survey: Survey) -> list[Limit]:
    """What limits, the rate's limit first."""
    found = [] if not is_measured(survey) else [_slowest(survey)]
    sizes, files = survey.units.bytes, survey.units.files
    if _has_tiny_files(survey):
        words = f"{units.things(survey.files, 'file')}, the median {units.size(files.median)}"
        found.append(Limit("small files", f"{words}: each costs a request and a look at what it holds"))
    elif survey.units.count > _MANY and sizes.median < _SMALL_UNIT:
        words = f"{units.things(survey.units.count, 'unit')}, the median {units.size(sizes.median)} decoded"
        found.append(Limit("small units", f"{words}: each is read and decoded apart"))
    if sizes.largest > _LARGE_UNIT:
        words = f"a unit of {units.size(sizes.largest)} decoded"
        found.append(Limit("large units", f"{words}: it is decoded in parts, or through a temporary file"))
    if survey.checks.largest_page > _LARGE_PAGE:
        words = f"a page of {units.size(survey.checks.largest_page)}"
        found.append(Limit("large pages", f"{words}: it is in memory as a whole, for each lane that reads it"))
    return found


def _slowest(survey: Survey) -> Limit:
    rates = survey.rates
    assert rates is not None
    fetched = rates.fetch * rates.decoded / max(rates.stored, 1)
    if rates.remote and (rates.decode is None or fetched < rates.decode):
        return Limit("network", f"it brings {units.speed(rates.fetch)} of files, {units.speed(fetched)} of values")
    if rates.decode is None:
        return Limit("decode", "the stream is slower than the network")
    share = decode_share(survey) or 0.0
    if share >= _MOST_OF_IT:
        return Limit("decode", f"it takes {units.percent(share)} of the stream's work")
    return Limit("copy", f"decoding takes {units.percent(share)} of the work; the rest gathers rows into batches")


def _has_tiny_files(survey: Survey) -> bool:
    return survey.files > _MANY and survey.units.files.median < _TINY_FILE


def advice(survey: Survey, name: str, told: Sequence[str] = ()) -> list[Advice]:
    """What helps.

    Args:
        name: of the data, as commands take it.
        told: options with which they find it.
    """
    if survey.rows == 0:
        return [Advice("there are no rows")]
    whats = {limit.what for limit in limits(survey)}
    found = [*_rewrite(survey, name, told, whats), *_merge(survey), *_network(whats)]
    if found:
        return found
    little = "" if is_measured(survey) else ": so little is read at once, whatever it is like"
    return [Advice(f"nothing to change{little}")]


def _rewrite(survey: Survey, name: str, told: Sequence[str], whats: set[str]) -> list[Advice]:
    """All that a rewrite would bring, in one sentence."""
    times, stream, size = factor(survey), stream_factor(survey), size_factor(survey)
    brings = []
    if (
        times is not None and stream is not None and size is not None
        and times >= _DECODE_PAYS and stream >= _PAYS
        and "small files" not in whats and not ("network" in whats and size > 1)
    ):  # fmt: skip
        words = f"it decodes {times:.1f} times as fast and streams about {stream:.1f} times"
        brings.append(f"{words}, in {units.percent(size)} of the bytes")
    if whats & _OF_UNITS:
        brings.append(f"its units are of about 8 MiB, without {' and '.join(sorted(whats & _OF_UNITS))}")
    checks = survey.checks
    if checks.checked < checks.pages:
        brings.append("every page has a checksum, where a bit that flips in these files goes unseen")
    if not brings:
        return []
    return [Advice(f"written anew {'; '.join(brings)}", ("data", "rewrite", name, new_name(name), *told))]


def _merge(survey: Survey) -> list[Advice]:
    if not _has_tiny_files(survey):
        return []
    words = "have whoever writes the files write fewer and larger ones (some 32 MB): a rewrite keeps one for each"
    return [Advice(words)]


def _network(whats: set[str]) -> list[Advice]:
    if "network" not in whats:
        return []
    words = 'more ranks share the reading; a second epoch reads a disk of this machine with Stream(cache="/nvme")'
    return [Advice(words)]


def new_name(name: str) -> str:
    """A name for what data becomes, from that of a file, a folder or a dataset."""
    stem = PurePosixPath(name.removeprefix("dataset:").partition("@")[0]).name.partition(".")[0]
    if re.search(r"[*?\[]", stem):
        stem = PurePosixPath(name).parent.name
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")
    return f"{kept or 'data'}-rewritten"[-60:].lstrip("-_")
