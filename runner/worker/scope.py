"""What the code of a stage may touch: the run's bundle, its store, its configuration, a scratch folder."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.code import references
from runner.errors import DataError, suggest
from runner.record import Bundle, fold
from runner.record.entries import DatasetMade, Resumed
from runner.record.history import fence
from runner.record.run_spec import RunSpec
from runner.record.shipping import SpoolFile
from runner.record.trust import Seal
from runner.spec import Cluster, Dataset, Job, config, wire
from runner.store import Entry, Store
from runner.store.events import Event
from runner.store.retry import PATIENCE_S

if TYPE_CHECKING:
    from runner.data.manifest import Manifest


class Scope:
    """One attempt at a leg, as the stages see it.

    Args:
        store: the root store, with datasets and results.
        run_id: of the run.
        leg: the index of the leg.
        attempt: at the leg, from 1; together the fence of everything that is written to the log.
        scratch: a local folder that goes when the run ends.
        inline: whether stages run in the user's own process.
        job: the user's own Job (inline); read from the bundle otherwise.
        spec: its key, where another process has found it.
        sealed: see `Bundle`.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        leg: int,
        attempt: int,
        scratch: Path,
        *,
        inline: bool = False,
        job: Job | None = None,
        spec: str | None = None,
        sealed: Seal | None = None,
    ) -> None:
        self.store, self.run_id, self.leg, self.attempt = store, run_id, leg, attempt
        self.scratch, self.inline = Path(scratch), inline
        self.bundle = Bundle(store, run_id, sealed)
        self.stop = threading.Event()
        self._spec_key = spec or self.bundle.newest_spec()
        self.spec: RunSpec = self.bundle.spec(self._spec_key)
        self.job: Job = job if job is not None else wire.from_json(self.spec.job.raw)
        self._fence = fence(leg, attempt)
        self._lock = threading.Lock()
        self._shipped: dict[Path, SpoolFile] = {}

    @functools.cached_property
    def cluster(self) -> Cluster:
        """Where the run's stages run."""
        cluster = wire.from_json(self.spec.cluster.raw)
        assert isinstance(cluster, Cluster)
        return cluster

    @functools.cached_property
    def config(self) -> Any:
        """The job's config; loading it imports the user's code."""
        return self.job.config if self.inline else config.config_from_json(self.spec.job.config)

    @property
    def config_values(self) -> dict[str, Any]:
        """The config's fields as JSON values; imports nothing."""
        return config.config_values(self.spec.job.config)

    @property
    def data_folder(self) -> str:
        """Where this attempt writes the files of a dataset, below the dataset's own; nobody else writes there."""
        return f"_versions/{self.run_id}-{self.attempt}"

    # -- between processes ---------------------------------------------------------------------------------------

    def payload(self) -> dict[str, Any]:
        """What another process needs to attach to this scope."""
        return {
            "store": self.store.url,
            "options": self.store.options,
            "run_id": self.run_id,
            "leg": self.leg,
            "attempt": self.attempt,
            "scratch": str(self.scratch),
            "spec": self._spec_key,
            "sealed": self.bundle.sealed,
            "code_root": str(references.code_root() or ""),
            "beside": self._mark,
        }

    @functools.cached_property
    def _mark(self) -> str:
        """A file that whoever shares this process's scratch folder sees, and nobody else: names of machines need not
        tell, for containers of one machine may have its name and folders of their own.
        """
        path = self.scratch / f"here-{secrets.token_hex(8)}"
        path.touch()
        return str(path)

    @classmethod
    def attach(cls, payload: dict[str, Any]) -> Scope:
        """The scope in a worker process; also makes the user's code importable there.

        Elsewhere than beside the driver, the code is where Ray has put it.
        """
        root, unpacked = payload["code_root"], references.code_folder()
        if not is_beside(payload) and unpacked is not None:
            root = str(unpacked / "project")
        if root:
            references.set_code_root(Path(root))
        store = Store(payload["store"], payload["options"], PATIENCE_S)
        place = (payload["run_id"], payload["leg"], payload["attempt"], Path(payload["scratch"]))
        return cls(store, *place, spec=payload["spec"], sealed=payload["sealed"])

    # -- telling -------------------------------------------------------------------------------------------------

    def spool(self, stage: str, kind: str, writer: str) -> Path:
        """The local file whose content is shipped to the bundle; `kind` is 'logs' or 'metrics'."""
        ending = {"logs": "log", "metrics": "jsonl"}[kind]
        path = self.scratch / "spool" / stage / str(self.attempt) / kind / f"{writer}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def report(self, stage: str, **fields: Any) -> None:
        """Add a row to the metrics of the driver."""
        line = json.dumps({"at": time.time(), **fields}) + "\n"
        with self._lock, open(self.spool(stage, "metrics", "driver"), "a") as file:
            file.write(line)

    def ship(self, stage: str, kind: str, writer: str) -> None:
        """Return when all that a writer of this machine has spooled so far is in the bundle. Raises StoreError."""
        path = self.spool(stage, kind, writer)
        if path.exists():
            self._shipped.setdefault(path, SpoolFile(path, self.bundle)).ship()

    def record(self, event: Event) -> Entry:
        """Add an entry to the run's log. Raises Fenced if a newer attempt has begun or the run has ended."""
        with self._lock:
            return self.bundle.log.append(event, self._fence)

    def check_fence(self) -> None:
        """Raise Fenced if a newer attempt has begun, or the run has ended."""
        self._fence(self.bundle.log.read())

    # -- data ----------------------------------------------------------------------------------------------------

    def manifest(self, source: str | Dataset) -> Manifest:
        """The manifest of a dataset: what this run made, what is published, or the files at its URL.

        Raises:
            DataError: there is no such data.
        """
        from runner.data.catalog import Catalog

        catalog = Catalog(self.store)
        if isinstance(source, str):
            pinned = self._made_by_this_run().get(source)
            if pinned is not None:
                return catalog.manifest(source, pinned)
            definition = wire.from_json(self.spec.datasets.get(source))
            if definition is None or definition.url is None:
                found = catalog.latest(source)
                if found is not None:
                    return found
                known = [*self.spec.datasets, *catalog.names()]
                raise DataError(
                    f"there is no dataset '{source}' in the store",
                    todo=suggest(source, known) or "make it first",
                    where=f"store {self.store.url}",
                )
            return self._foreign(definition)
        return self._foreign(source)

    def made_since_resume(self) -> set[str]:
        """The datasets that a `make` has given since the run was submitted, or last resumed."""
        made: set[str] = set()
        for entry in self.bundle.log.read():
            if isinstance(entry.event, Resumed):
                made.clear()
            elif isinstance(entry.event, DatasetMade):
                made.add(entry.event.name)
        return made

    def _made_by_this_run(self) -> dict[str, str]:
        outputs: dict[str, str] = {}
        for stage in fold(self.bundle.log.read()).stages.values():
            outputs.update(stage.result.outputs if stage.result is not None else {})
        for entry in self.bundle.log.read():
            if isinstance(entry.event, DatasetMade):
                outputs[entry.event.name] = entry.event.id
        return outputs

    def _foreign(self, dataset: Dataset) -> Manifest:
        """As it was at submission, so that a resume reads the same data."""
        from runner.data import source_manifest

        key = source_manifest.key(dataset)
        with contextlib.suppress(FileNotFoundError):
            return self.kept_manifest(key)
        manifest = source_manifest.look(dataset)
        self.keep_manifest(key, manifest)
        return manifest

    def kept_manifest(self, key: str) -> Manifest:
        """One that the bundle keeps, with the footers of its files. Raises FileNotFoundError, DataError."""
        from runner.data import source_manifest
        from runner.data.manifest import Manifest

        store = self.bundle.store
        return Manifest.from_bytes(store.get(key), functools.partial(store.get, source_manifest.footers_key(key)))

    def keep_manifest(self, key: str, manifest: Manifest) -> None:
        """Have the bundle keep one, if it keeps none there yet, and the footers of its files before it."""
        from runner.data import source_manifest

        if manifest.footers:
            self.bundle.store.create(source_manifest.footers_key(key), manifest.footers.to_bytes())
        self.bundle.store.create(key, manifest.to_bytes())


def is_beside(payload: dict[str, Any]) -> bool:
    """Whether this process shares the scratch folder of the one whose payload it was given: its code and its spool."""
    return os.path.exists(payload["beside"])
