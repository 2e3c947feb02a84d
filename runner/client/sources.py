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
from runner.untrusted.names import DATASET

#: In front of a dataset's name that is a file's, too.
_PREFIX = "dataset:"


@dataclass(frozen=True)
class Named:
    """Data as it was named.

    Args:
        name: as it was given.
        looked: what is looked at.
        published: the version of a dataset, where it is one.
    """

    name: str
    looked: Looked
    published: Published | None = None

    def dataset(self, columns: Sequence[str] | None = None) -> Dataset:
        """As the source of a stage. Raises SpecError where an option is a secret, which would end in the bundle."""
        wanted = None if columns is None else tuple(columns)
        if isinstance(self.looked, Source):
            source = self.looked
            return Dataset(list(source.urls), source.format, dict(source.options), wanted)
        assert self.published is not None
        return Dataset(self.published.url, "parquet", dict(self.published.options), wanted)


def named(text: str, format: str | None = None, options: Sequence[str] = (), store: str | None = None) -> Named:
    """The data that `text` means: a path that is there, a URL or a glob; else a dataset of the store, ``NAME`` or
    ``NAME@VERSION`` (``dataset:NAME`` where a path has its name).

    Args:
        format, options: of files; an option is ``key=value``.
        store: the URL of the store, instead of the project's.

    Raises:
        InputError: an option cannot be read, or belongs to files.
        DataError: there is neither a path nor a dataset of this name.
    """
    name = text.removeprefix(_PREFIX)
    if name == text and not _is_name(text):
        if format is not None:
            Fields("--format").one_of("format", format, (*FORMATS, *TABLES, MANIFEST))
        return Named(text, Source((text,), format, parsed(options)))
    if format is not None or options:
        what = "--format" if format is not None else "--option"
        raise InputError(
            f"{what} of the dataset '{name}'", allowed=f"{what} of files", todo="leave it out, or give a URL"
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


def parsed(options: Sequence[str]) -> Mapping[str, Any]:
    """``key=value`` as a mapping: what is JSON (true, 3, {"a": 1}) is that value, anything else text.

    Raises:
        InputError: there is no '=' in one, or no key before it.
    """
    found: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise InputError(f"--option {option}", allowed="key=value, of fsspec", todo="write it so")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
