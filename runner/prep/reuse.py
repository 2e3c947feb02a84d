"""Whether what was made before may be used: its key says so, and all that it depended on besides is as it was."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.code import dependencies, references
from runner.code.archive import listed_names
from runner.code.data_files import Tree, names_inside
from runner.code.dependencies import CHANGED, Present, is_machines
from runner.code.hashing import Identity
from runner.data.catalog import Catalog
from runner.data.manifest import Manifest
from runner.data.results import Results, has_sinks
from runner.plan.project import find_project
from runner.prep import trace as prep_trace
from runner.store import LOCAL
from runner.worker.scope import Scope

#: Writes every file of a result, so that its version is always known.
_WRITER = "pyarrow"


class Reuse:
    """What may be reused for one key.

    Args:
        name: of the stage (or of the dataset that is made), by which a run may ask to make it anyway.
        identity: of the code.
        key: of the result.
        sinks: sink key -> dataset.
        fields: that a record must have besides.
        inputs: whose files do not count as read besides.
    """

    def __init__(
        self,
        name: str,
        identity: Identity,
        key: str,
        scope: Scope,
        sinks: Mapping[str, str],
        fields: Iterable[str] = (),
        inputs: Iterable[Manifest] = (),
    ) -> None:
        self.identity, self.key, self._sinks, self._fields = identity, key, dict(sinks), set(fields)
        self.forced = name in scope.spec.force
        self.replace = False  # there is a record, and it is not used
        self.root = code_root()
        self._catalog, self._results, self._run = Catalog(scope.store), Results(scope.store), scope.run_id
        #: The names of the input's files in the project.
        self.inside = frozenset[str]().union(
            *(names_inside(manifest.base, (shard.path for shard in manifest.shards), self.root) for manifest in inputs)
        )
        store = scope.store.root if scope.store.kind == LOCAL else ""
        names = functools.partial(listed_names, find_project(self.root), scope.store)
        tree = Tree(self.root, names, store, self.inside)
        self._present = Present(self.root, scope.job.pin_packages, tree=tree)
        self.named = _named(identity, tree)

    def found(self) -> dict[str, Any] | None:
        """The record of the result, if all of it is in the store and agrees with what is there now."""
        self.replace = self.forced
        for record in self._results.of_key(self.key):
            if not (has_sinks(record, self._sinks) and self._fields <= record.keys() and self.may_use(record)):
                continue
            if not self._results.missing(record):
                return record
            self.replace = True
        return None

    def taken(self) -> dict[str, Any] | None:
        """The record that is `found`, whose versions are then the newest of their datasets.

        What somebody removes at the same time is not taken: the removal sees this run, or this sees that the data goes
        (see `leftovers`).
        """
        record = self.found()
        if record is None:
            return None
        self._catalog.publish_versions(record)
        self.replace = bool(self._results.missing(record))
        return None if self.replace else record

    def may_use(self, record: Mapping[str, Any]) -> bool:
        """Whether a record agrees; where the stage is to be made anyway, only what this very run has made."""
        return (not self.forced or record["run"] == self._run) and self._present.agrees(record)

    def facts(
        self, deps: Iterable[Mapping[str, str]], loaded: Iterable[str], packages: Iterable[Mapping[str, str]] = ()
    ) -> dict[str, Any]:
        """What a record keeps of what it depended on.

        Args:
            deps: of its pieces.
            loaded: top-level names that they have imported.
            packages: versions with which pieces were made; those made before may have had others.
        """
        versions = dependencies.both(versions_of(self.identity.packages, loaded), *packages)
        merged = dependencies.merged([self.named, *deps])
        return {"code": self.identity.parts, "deps": merged, "packages": versions, "pinned": self._present.pinned}

    def other_versions(self, record: Mapping[str, Any]) -> list[str]:
        """How packages differ from those that a record was made with, in words."""
        return [
            f"{name} {then}, now {now}"
            for name, (then, now) in self._present.other_versions(record["packages"]).items()
        ]


def _named(identity: Identity, tree: Tree) -> dict[str, str]:
    """What is known of the code to depend on: files that its strings name, which a library may read where no hook of
    Python's sees it; which there are of those that it looks for; variables of the environment.
    """
    files = (dependencies.name_of(path, tree.root) for path in identity.mentions)
    variables = (dependencies.name_of_variable(name) for name in identity.variables if not is_machines(name))
    found = {name: dependencies.digest(name, tree.root) for name in (*files, *variables)}
    for end in identity.looked_for:
        found[f"{tree.kind}/{end}"] = tree.digest(f"{tree.kind}/{end}") or CHANGED
    return found


def versions_of(packages: Iterable[str], loaded: Iterable[str]) -> dict[str, str]:
    """Distribution -> version of what the code imports, of what was loaded besides, and of what writes the files."""
    return dict(_versions_of(frozenset({*packages, *loaded, _WRITER})))


@functools.lru_cache(maxsize=256)
def _versions_of(names: frozenset[str]) -> Mapping[str, str]:
    return dependencies.versions_of(names)


def code_root() -> Path:
    """Where this process has the user's code."""
    return references.code_root() or Path.cwd()


def traced_here(modules: frozenset[str]) -> tuple[dict[str, str], list[str]]:
    """(dependencies, packages) of what this process has done so far; see `trace`."""
    watch = prep_trace.begin()
    return watch.deps(code_root(), modules), watch.packages()
