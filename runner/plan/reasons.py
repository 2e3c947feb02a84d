"""Why a preparation runs, or is skipped: what differs from the record that is nearest to what would be made now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.code.dependencies import Present, told
from runner.data.catalog import Catalog
from runner.data.results import Results

#: Versions of a dataset that are looked at, the newest first.
_MOST_VERSIONS = 10
_MOST_NAMED = 12
_ABSENT = object()


def nearest(catalog: Catalog, datasets: Iterable[str], now: Mapping[str, Any], present: Present) -> list[str]:
    """What differs from the record that differs least, in words.

    Args:
        datasets: that the stage writes.
        now: as a record would have it: code, config, settings, inputs.
        present: the dependencies as they are.
    """
    keys = [version.data.key for name in datasets for version in reversed(catalog.versions(name)[-_MOST_VERSIONS:])]
    records = [record for key in dict.fromkeys(filter(None, keys)) for record in Results(catalog.store).of_key(key)]
    found = [(list(differences(record, now, present)), record) for record in records]
    if not found:
        return ["it has not been made before"]
    words, record = min(found, key=lambda each: len(each[0]))
    if not words:
        return [f"its data, made by {_made(record)}, is not in the store any more"]
    return [*words[:_MOST_NAMED], *([f"and {len(words) - _MOST_NAMED} more"] if len(words) > _MOST_NAMED else [])]


def grounds(record: Mapping[str, Any], present: Present) -> list[str]:
    """Why a record is found, in words."""
    names = {"code": "part@ of code", "config": "config field@", "inputs": "input@", "deps": "file@ that it read"}
    counted = [_count(len(record[name]), words) for name, words in names.items()]
    words = [f"made by {_made(record)}; the same since: {', '.join(counted)}"]
    other = present.other_versions(record["packages"])
    return words + [f"package {name} was {then}, is {now} (does not count)" for name, (then, now) in other.items()]


def differences(record: Mapping[str, Any], now: Mapping[str, Any], present: Present) -> Iterator[str]:
    """What has changed since a record was made, in words."""
    yield from _changes("code", record["code"], now["code"], shown=False)
    yield from _changes("config", record["config"], now["config"])
    yield from _changes("setting", record["settings"], now["settings"])
    for name in sorted({*record["inputs"], *now["inputs"]}):
        yield from _input(name or "source", record["inputs"].get(name), now["inputs"].get(name))
    for name in present.differing(record["deps"]):
        yield told(name)
    if present.pinned:
        for name, (then, version) in present.other_versions(record["packages"]).items():
            yield f"package {name} was {then}, is {version}"


def _changes(what: str, then: Mapping[str, Any], now: Mapping[str, Any], *, shown: bool = True) -> Iterator[str]:
    for name in sorted({*then, *now}):
        before, after = then.get(name, _ABSENT), now.get(name, _ABSENT)
        if _plain(before) == _plain(after):
            continue
        if before is _ABSENT or after is _ABSENT:
            yield f"{what} {name} is {'new' if before is _ABSENT else 'gone'}"
        else:
            yield f"{what} {name} " + (f"was {before!r}, is {after!r}" if shown else "changed")


def _input(name: str, then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Iterator[str]:
    if then is None or now is None:
        yield f"input {name} is {'new' if then is None else 'gone'}"
        return
    if then["id"] == now["id"]:
        return
    before, after = then.get("shards"), now.get("shards")
    if now["id"] is None or before is None or after is None:
        yield f"input {name} ({then['dataset']}) is another version"
        return
    shards = list(_changes(f"input {name}: shard", before, after, shown=False))
    yield from shards or [f"input {name} ({then['dataset']}) is another version"]


def _plain(value: Any) -> Any:
    """Tuples are lists in a record."""
    return list(value) if isinstance(value, tuple) else value


def _count(number: int, words: str) -> str:
    """`words` with an s for every @, if they are several."""
    return f"{number} {words.replace('@', '' if number == 1 else 's')}"


def _made(record: Mapping[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.get("at", 0)))
    return f"run {record['run']} at {when}"
