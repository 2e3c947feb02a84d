"""What measurements of a stream mean: which of its knobs helps, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.views import units

if TYPE_CHECKING:
    from runner.data.survey.bench import Result, Setting
    from runner.data.survey.rates import Rates

#: Times as fast from which on a setting is called faster: two runs of the same differ by less.
_FASTER = 1.1
#: The share of what threads can decode from which on only another encoding helps.
_NEAR = 0.8


def shown(setting: Setting) -> str:
    """A setting in words."""
    order = "shuffled" if setting.shuffle else "file order"
    return f"{units.things(setting.threads, 'thread')}, {order}, {setting.as_}"


def decode_limit(rates: Rates, threads: int) -> float | None:
    """Decoded bytes a second that so many threads of this machine would decode and do nothing else."""
    return None if rates.decode is None else rates.decode * threads


def of_limit(result: Result, rates: Rates) -> float | None:
    """The share of that which a stream has reached."""
    limit = decode_limit(rates, result.setting.threads)
    return None if not limit else result.bytes_s / limit


def knobs(results: Sequence[Result], rates: Rates) -> list[str]:
    """Which knob helps, by comparison with the first result; the last sentence says how far it is from the limit."""
    from runner.data.survey.rates import LEAST_BYTES  # it brings pyarrow

    if rates.decoded < LEAST_BYTES:
        return ["so little data is read at once, whatever the knobs"]
    first = results[0]
    found = [words for result in results[1:] if (words := _faster(first, result))]
    fewer = [one for one in results[1:] if _is_fewer(first, one)]
    if fewer and fewer[0].bytes_s * _FASTER > first.bytes_s and not found:
        found.append(f"threads={fewer[0].setting.threads} is enough: more threads bring less than a tenth")
    if not found:
        found.append(f"no knob makes it faster than {shown(first.setting)}")
    share = of_limit(first, rates)
    if share is not None and share >= _NEAR:
        found.append(f"{units.percent(share)} of what its threads can decode: only another encoding helps")
    elif share is not None:
        found.append(f"{units.percent(share)} of what its threads can decode: the rest is gathering, reading, waiting")
    if rates.remote:
        found.append("the files are another machine's: Stream(cache=...) keeps them on a disk of this one")
    return found


def _is_fewer(first: Result, other: Result) -> bool:
    one, two = first.setting, other.setting
    return (one.shuffle, one.as_) == (two.shuffle, two.as_) and two.threads < one.threads


def _faster(first: Result, other: Result) -> str | None:
    times = other.bytes_s / max(first.bytes_s, 1e-9)
    if times < _FASTER:
        return None
    if not other.setting.shuffle:
        return f"shuffle=False is {times:.1f} times as fast: so much the mixing of rows costs"
    if other.setting.as_ != first.setting.as_:
        return f'as_="{other.setting.as_}" is {times:.1f} times as fast'
    return f"threads={other.setting.threads} is {times:.1f} times as fast"
