"""What somebody names on the command line as data: URLs, or a dataset in the store."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.client.published import Published, dataset
from runner.data.source_manifest import Source
from runner.data.survey.rows import Looked
from runner.errors import DataError, InputError
from runner.plan.project import find_project
from runner.spec import Dataset
from runner.spec.checks import Fields
from runner.spec.formats import FORMATS, MANIFEST, TABLES
from runner.spec.reading import check_place, checked
from runner.store import credentials
from runner.untrusted.names import DATASET

#: In front of a dataset's name that is a file's, too.
_PREFIX = "dataset:"


@dataclass(frozen=True)
class Told:
    """What is said of files beside their URL, by options of the command line.

    Args:
        format, version, snapshot: as of `Dataset`.
        option, csv: ``key=value`` each: storage options of fsspec, and CSV's dialect.
    """

    format: str | None = None
    option: tuple[str, ...] = ()
    csv: tuple[str, ...] = ()
    version: int | None = None
    snapshot: int | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The options that were given, as they must be typed for the same files; no secrets among them."""
        given = [(f"--{name}", value) for name, value in vars(self).items() if value is not None]
        each = [(name, one) for name, value in given for one in (value if isinstance(value, tuple) else (value,))]
        shown = [pair for pair in each if pair[0] != "--option" or not _is_secret(pair[1])]
        return tuple(str(word) for pair in shown for word in pair)

    def source(self, url: str) -> Source:
        """The files at a URL.

        Raises:
            InputError: an option cannot be read, or is not of this format.
        """
        fields = Fields("runner data")
        if self.format is not None:
            fields.one_of("format", self.format, (*FORMATS, *TABLES, MANIFEST))
        reading = checked(fields, None, parsed("--csv", self.csv), "infer")
        check_place(fields, self.format, [url], self.version, self.snapshot, bool(reading.csv))
        options = parsed("--option", self.option)
        return Source((url,), self.format, options, None, reading, self.version, self.snapshot)


def _is_secret(option: str) -> bool:
    return bool(credentials.given(parsed("--option", [option])))


@dataclass(frozen=True)
class Named:
    """Data as it was named.

    Args:
        name: as it was given.
        looked: what is looked at.
        published: the version of a dataset, where it is one.
        told: of files.
    """

    name: str
    looked: Looked
    published: Published | None = None
    told: Told = Told()

    def dataset(self, columns: Sequence[str] | None = None) -> Dataset:
        """As the source of a stage. Raises SpecError where an option is a secret, which would end in the bundle."""
        wanted = None if columns is None else tuple(columns)
        if isinstance(self.looked, Source):
            source = self.looked
            return Dataset(
                list(source.urls), source.format, dict(source.options), wanted, csv=dict(source.reading.csv) or None,
                version=source.version, snapshot=source.snapshot,
            )  # fmt: skip
        assert self.published is not None
        return Dataset(self.published.url, "parquet", dict(self.published.options), wanted)


def named(text: str, told: Told = Told(), store: str | None = None) -> Named:
    """The data that `text` means: a path that is there, a URL or a glob; else a dataset of the store, ``NAME`` or
    ``NAME@VERSION`` (``dataset:NAME`` where a path has its name).

    Args:
        told: of files.
        store: the URL of the store, instead of the project's.

    Raises:
        InputError: an option cannot be read, or belongs to files.
        DataError: there is neither a path nor a dataset of this name.
    """
    name = text.removeprefix(_PREFIX)
    if name == text and not _is_name(text):
        return Named(text, told.source(text), told=told)
    if told.words:
        what = told.words[0]
        other = f", or name the version: {name.partition('@')[0]}@ID" if what == "--version" else ""
        raise InputError(
            f"{what} of the dataset '{name}'", allowed=f"{what} of files", todo=f"leave it out, or give a URL{other}"
        )
    found = _published(name, text, store)
    return Named(text, found.manifest, found)


def _is_name(text: str) -> bool:
    return DATASET.fits(text.partition("@")[0]) and not os.path.lexists(text)


def _published(name: str, text: str, store: str | None) -> Published:
    short, at, version = name.partition("@")
    project = find_project()
    opened = project.store(store)
    try:
        return dataset(DATASET(short), version if at else None, store=opened)
    except DataError as error:
        if name != text or at:
            raise
        file = f"datasets/{text}.py"
        defined = f"; {file} is a definition: give the URL in it" if (project.root / file).is_file() else ""
        raise DataError(
            f"no file and no dataset '{text}'",
            allowed=error.allowed or "",
            todo=f"give a path or URL of files, or a name that `runner data ls` shows{defined}",
            where=error.where or "",
        ) from None


def parsed(flag: str, options: Sequence[str]) -> Mapping[str, Any]:
    """``key=value`` as a mapping: what is JSON (true, 3, {"a": 1}) is that value, anything else text.

    Args:
        flag: by which they are given, for errors.

    Raises:
        InputError: there is no '=' in one, or no key before it.
    """
    found: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise InputError(f"{flag} {option}", allowed=f"{flag} key=value", todo="write it so")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
