"""What a user writes: Job, Prep, Train, Dataset, Cluster, Group. Frozen values, checked when they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.errors import SpecError, listed, suggest
from runner.spec import reading
from runner.spec.checks import Fields, checked
from runner.spec.cluster import Cluster, Group, Kubernetes, Volume, package_names
from runner.spec.formats import FORMATS, MANIFEST, TABLES
from runner.store import credentials
from runner.untrusted.names import DATASET, JOB, STAGE, Kind, object_name
from runner.values import records

BATCH_FORMATS = ("arrow", "pandas", "numpy", "rows", "dataset")

MOST_WORKERS = 4096

#: As `Train.on_data`: in the rank itself.
INLINE = "inline"


@checked
@dataclass(frozen=True)
class Dataset:
    """Data at a URL, or data that a job or `make` brings into the store.

    Args:
        url: a file, folder or glob on any fsspec URL, or several of them; None for data that lies in the store under
            the dataset's name.
        format: parquet, ipc, jsonl, csv, text (a row a line), tar (a row a sample, as WebDataset has them) or files (a
            row a file: path, bytes); delta or iceberg, a table of Delta Lake or Apache Iceberg; manifest, a file that
            `Manifest.to_bytes` gave; None: by the ending.
        options: fsspec storage options of the URL. They end in the bundle, so a secret is named:
            ``{"secret": "env:NAME"}`` is the variable NAME of each process that opens the data.
        columns: the columns to read; None reads all.
        make: a function without arguments that yields Arrow tables, each of which becomes one shard. It runs once,
            when the store does not hold its result yet.
        schema: types of columns, as a schema of pyarrow or ``{"id": "int64", "day": "date32"}``; hive partition keys
            and late fields of JSON lines among them. A declared column is null in a file that has it not.
        unknown: what becomes of columns that `schema` has not: "infer" reads them as they are, "ignore" leaves them
            out, "error" refuses them.
        csv: the dialect: delimiter, quote, escape, decimal, header, names, skip, nulls.
        version: of a Delta Lake table; None: the newest, when the job is submitted.
        snapshot: of an Iceberg table, its id; None: the current one, when the job is submitted.
    """

    url: str | Sequence[str] | None = None
    format: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    make: Callable[[], Any] | None = None
    schema: Any = None
    unknown: str = "infer"
    csv: Mapping[str, Any] | None = None
    version: int | None = None
    snapshot: int | None = None

    def __post_init__(self) -> None:
        fields = Fields("Dataset")
        if self.url is not None and (not self.urls or not all(isinstance(one, str) and one for one in self.urls)):
            raise fields.fail(
                "url", self.url, "a path or an fsspec URL, several of them, or None for data in the store"
            )
        if self.url is not None and not isinstance(self.url, str):
            object.__setattr__(self, "url", tuple(self.url))
        if self.url is not None and self.make is not None:
            raise fields.fail("make", self.make, "either url or make, not both", "remove one of the two")
        if self.format is not None:
            fields.one_of("format", self.format, (*FORMATS, *TABLES, MANIFEST))
        declared = reading.checked(fields, self.schema, self.csv, self.unknown)
        is_declared = bool(declared.to_json())
        reading.check_place(fields, self.format, self.urls, self.version, self.snapshot, is_declared)
        object.__setattr__(self, "schema", dict(declared.schema) or None)
        object.__setattr__(self, "csv", dict(declared.csv) or None)
        if self.url is None and is_declared:
            raise fields.fail("schema", self.schema, "only with url=", "give the tables of make= their types")
        if not isinstance(self.options, Mapping):
            raise fields.fail("options", self.options, "a mapping of fsspec storage options")
        for url in self.urls or [""]:
            _refuse_credentials(url, self.options)
        if self.columns is not None:
            object.__setattr__(self, "columns", fields.names("columns", self.columns))
        if self.make is not None:
            fields.callable("make", self.make, "without arguments that yields Arrow tables")

    @property
    def urls(self) -> list[str]:
        """One URL, several, or none."""
        if self.url is None:
            return []
        return [self.url] if isinstance(self.url, str) else list(self.url)

    @property
    def reading(self) -> reading.Reading:
        """What is declared about its files."""
        return reading.Reading(self.schema or {}, self.csv or {}, self.unknown)


def _refuse_credentials(url: str | None, options: Mapping[str, Any]) -> None:
    """Raise SpecError if a dataset holds a secret, which is not shown: whoever reads the store would have it."""
    found = credentials.given(options)
    if found or credentials.in_url(url or ""):
        what = f"options: '{found[0]}' is a credential" if found else "url: it has a password"
        raise SpecError(
            f"{what}, which would end in the bundle",
            allowed="the environment's own (AWS_PROFILE, AWS_ACCESS_KEY_ID, ...), or the name of a variable",
            todo=f"say '{credentials.BY_NAME}NAME' instead of the value, and set NAME where the data is read",
            where="Dataset",
        )


@checked
@dataclass(frozen=True)
class Prep:
    """A stage that turns data into data.

    Args:
        name: of the stage; letters, digits, '-' and '_'.
        fn: ``fn(batch, config)`` -> batch (with several sinks: ``{sink key: batch}``); or a class, made once per worker
            as ``fn(config)`` and called as ``instance(batch)``. With ``batch_format="dataset"``: a function of a Ray
            Data dataset (or of ``{name: dataset}`` where `source` is a mapping).
        source: a dataset's name or value; a mapping of them only with ``batch_format="dataset"``.
        sink: the name of the dataset to write, or a mapping of keys to names.
        on: the group of machines.
        workers: processes; (fewest, most): as many as there is work for, where the cluster can grow and shrink.
        batch_format: what `fn` is given: arrow, pandas, numpy, rows, or dataset.
        batch_size: rows per call.
        keep: ``keep(batch, config)`` -> a boolean per row; rows with False are counted as filtered.
        uses: names of the config fields that the result depends on; None means all of them.
        sort_by: the columns of a total order, required with ``batch_format="dataset"``: the output is sorted by them.
        max_quarantine: the largest share (0 to 1) of input rows that may raise; they are set aside and counted.
        timeout_s: seconds after which the stage fails.
    """

    name: str
    fn: Callable[..., Any]
    source: str | Dataset | Mapping[str, str | Dataset]
    sink: str | Mapping[str, str]
    on: str = "cpu"
    workers: int | tuple[int, int] = 1
    batch_format: str = "arrow"
    batch_size: int = 4096
    keep: Callable[..., Any] | None = None
    uses: tuple[str, ...] | None = None
    sort_by: tuple[str, ...] | None = None
    max_quarantine: float = 0.0
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        fields = Fields(f"Prep '{self.name}'")
        object.__setattr__(self, "workers", _workers(fields, self.workers))
        _stage_fields(fields, self.name, self.on, self.timeout_s)
        fields.callable("fn", self.fn, "(batch, config)")
        fields.one_of("batch_format", self.batch_format, BATCH_FORMATS)
        fields.integer("batch_size", self.batch_size, 1, 2**63 - 1)
        fields.number("max_quarantine", self.max_quarantine, 0.0, 1.0)
        if self.keep is not None:
            fields.callable("keep", self.keep, "(batch, config)")
        for name in ("uses", "sort_by"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, fields.names(name, getattr(self, name)))
        _named(fields, "source", self.source, _dataset_reference, "dataset")
        _named(fields, "sink", self.sink, check_dataset_name, "dataset name")
        self._check_dataset_format(fields)

    def _check_dataset_format(self, fields: Fields) -> None:
        whole = self.batch_format == "dataset"
        if whole and not self.sort_by:
            raise fields.fail(
                "sort_by",
                self.sort_by,
                "the columns of a total order, with batch_format='dataset'",
                "name columns that no two rows share, so that the output is the same every time",
            )
        if not whole and self.sort_by:
            raise fields.fail("sort_by", self.sort_by, "only with batch_format='dataset'", "remove it")
        if whole and (self.keep is not None or self.max_quarantine):
            raise fields.fail(
                "keep/max_quarantine",
                (self.keep, self.max_quarantine),
                "only where fn is called batch by batch",
                "filter inside the function",
            )
        if not whole and isinstance(self.source, Mapping):
            raise fields.fail("source", self.source, "one dataset; a mapping only with batch_format='dataset'")

    @property
    def sinks(self) -> dict[str, str]:
        """Sink key -> dataset name; a single sink has the key ''."""
        return {"": self.sink} if isinstance(self.sink, str) else dict(self.sink)

    @property
    def sources(self) -> dict[str, str | Dataset]:
        """Source key -> dataset; a single source has the key ''."""
        return dict(self.source) if isinstance(self.source, Mapping) else {"": self.source}

    @property
    def worker_range(self) -> tuple[int, int]:
        """The fewest and the most workers."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)


@checked
@dataclass(frozen=True)
class Train:
    """A stage that trains on a gang of ranks.

    Args:
        name: of the stage; letters, digits, '-' and '_'.
        fn: ``fn(ctx, config)``, called once per rank.
        data: the names by which the function asks for its data -> dataset; nothing where it has a loader of its own.
        on: the group of machines.
        workers: ranks (the world size).
        transform: ``transform(batch, config)`` or ``transform(batch)`` -> a dict of columns: what is done to each batch
            of `ctx.batches` before it is copied to the device. `batch` is a `Batch` of numpy's arrays. Or a class, made
            once per process as ``transform(config)`` and called as ``instance(batch)``.
        on_data: where it is done: 'inline', in the rank; or the name of a group of the cluster, such as 'cpu', whose
            workers do it ahead of the ranks.
        data_workers: processes of that group; None: one for each rank.
        seed: of the sample order and of every random state.
        best: ``(metric, "min" | "max")``: which checkpoint is the best one.
        checkpoint_every_s: seconds between checkpoints; None: only by steps, by call, and at the end.
        checkpoint_every_steps: steps between checkpoints.
        keep: how many of the last checkpoints stay (the best one stays as well).
        timeout_s: seconds after which the stage fails.
    """

    name: str
    fn: Callable[..., Any]
    data: Mapping[str, str | Dataset] = field(default_factory=dict)
    on: str = "gpu"
    workers: int = 1
    transform: Callable[..., Any] | None = None
    on_data: str = INLINE
    data_workers: int | None = None
    seed: int = 0
    best: tuple[str, str] | None = None
    checkpoint_every_s: float | None = 60.0
    checkpoint_every_steps: int | None = None
    keep: int = 2
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        fields = Fields(f"Train '{self.name}'")
        fields.integer("workers", self.workers, 1, MOST_WORKERS)
        _stage_fields(fields, self.name, self.on, self.timeout_s)
        fields.callable("fn", self.fn, "(ctx, config)")
        fields.runs_when_called("fn", self.fn)
        if self.data is None:
            object.__setattr__(self, "data", {})
        if not isinstance(self.data, Mapping):
            raise fields.fail("data", self.data, "a mapping such as {'train': 'tokens', 'validation': 'tokens_val'}")
        for key, value in self.data.items():
            fields.name(f"data key {key!r}", key, longest=40, pattern=r"[A-Za-z][A-Za-z0-9_]*", words="words")
            _dataset_reference(fields, f"data[{key!r}]", value)
        fields.integer("seed", self.seed, 0, 2**63 - 1)
        fields.integer("keep", self.keep, 1)
        if self.checkpoint_every_s is not None:
            fields.number("checkpoint_every_s", self.checkpoint_every_s, 0.1)
        if self.checkpoint_every_steps is not None:
            fields.integer("checkpoint_every_steps", self.checkpoint_every_steps, 1)
        if self.best is not None:
            best = tuple(self.best) if isinstance(self.best, tuple | list) else ()
            if len(best) != 2 or not all(isinstance(part, str) for part in best):
                raise fields.fail("best", self.best, "a pair such as ('validation_loss', 'min')")
            fields.one_of("best[1]", best[1], ("min", "max"))
            object.__setattr__(self, "best", best)
        self._check_transform(fields)

    def _check_transform(self, fields: Fields) -> None:
        if not isinstance(self.on_data, str) or not self.on_data:
            raise fields.fail("on_data", self.on_data, f"'{INLINE}', or the name of a group of the cluster")
        if self.transform is None:
            for name, unset in (("on_data", INLINE), ("data_workers", None)):
                if getattr(self, name) != unset:
                    todo = f"give transform=, or take {name} out"
                    raise fields.fail(name, getattr(self, name), "only with a transform", todo)
            return
        fields.callable("transform", self.transform, "(batch, config) or (batch)")
        fields.runs_when_called("transform", self.transform)
        if not self.data:
            allowed = "a transform only with data=, whose batches ctx.batches reads"
            raise fields.fail("transform", self.transform, allowed, "call it in the loader of your own")
        if self.data_workers is None:
            return
        if self.on_data == INLINE:
            allowed = "only where on_data names a group of the cluster"
            raise fields.fail("data_workers", self.data_workers, allowed, "say on_data='cpu', or take data_workers out")
        fields.integer("data_workers", self.data_workers, 1, MOST_WORKERS)
        if self.data_workers < self.workers:
            allowed = f"at least one for each of the {self.workers} ranks"
            raise fields.fail("data_workers", self.data_workers, allowed, "ask for more of them, or for fewer ranks")

    @property
    def worker_range(self) -> tuple[int, int]:
        """The world size, twice: a gang neither grows nor shrinks."""
        return self.workers, self.workers

    @property
    def helpers(self) -> int:
        """The processes that transform batches for the ranks; none where those do it themselves."""
        return 0 if self.on_data == INLINE else self.data_workers or self.workers


Stage = Prep | Train


@checked
@dataclass(frozen=True)
class Job:
    """What to run: stages, their configuration and the cluster.

    Args:
        name: of the job; letters, digits, '-' and '_'. In the ids of its runs it is lower-case, with '-' for '_'.
        stages: Prep and Train values; their order follows from the data they read and write.
        config: an instance of a dataclass, of a pydantic model or of an attrs class; every function of the job gets it.
        cluster: a cluster's name (the stem of its file in `clusters/`) or value.
        packages: what its functions import besides what the environment has, such as 'tokenizers>=0.20'. Locked at
            submission to exact versions that fit what is installed, and installed once on each machine.
        pin_packages: whether a result is made again when the versions of the packages that its code imports differ.
    """

    name: str
    stages: Sequence[Stage]  # a tuple once it is made
    config: Any = None
    cluster: str | Cluster = "local"
    packages: tuple[str, ...] = ()
    pin_packages: bool = False

    def __post_init__(self) -> None:
        fields = Fields(f"Job '{self.name}'")
        _name(fields, "name", self.name, JOB)
        if not isinstance(self.stages, list | tuple) or not self.stages:
            todo = "write stages=[...] around it" if isinstance(self.stages, Prep | Train) else ""
            raise fields.fail("stages", self.stages, "a list of at least one Prep or Train", todo)
        for stage in self.stages:
            if not isinstance(stage, Prep | Train):
                raise fields.fail("stages", stage, "Prep and Train values")
        names = [stage.name for stage in self.stages]
        folders = [object_name(name) for name in names]
        for name, folder in zip(names, folders, strict=True):
            if folders.count(folder) > 1:
                allowed = "stages with different names, also where '_' is '-' and capitals are small"
                raise fields.fail("stages", names, allowed, f"rename one of the two '{name}'")
        object.__setattr__(self, "stages", tuple(self.stages))
        if self.config is not None and not records.is_record(self.config):
            made = f"make one: config={self.config.__name__}()" if isinstance(self.config, type) else ""
            todo = made or "write @dataclass above its class"
            raise fields.fail("config", self.config, f"{records.KINDS}, or None", todo)
        if not isinstance(self.cluster, str | Cluster):
            raise fields.fail("cluster", self.cluster, "a cluster's name or a Cluster")
        object.__setattr__(self, "packages", package_names(fields, self.packages))
        if not isinstance(self.pin_packages, bool):
            raise fields.fail("pin_packages", self.pin_packages, "True or False")
        self._check_uses(fields)

    def _check_uses(self, fields: Fields) -> None:
        known = records.names(self.config)
        for stage in self.stages:
            for name in (stage.uses or ()) if isinstance(stage, Prep) else ():
                if name not in known:
                    allowed = f"fields of the config: {listed(known)}" if known else "none: the config has no fields"
                    todo = suggest(name, known) or "name the fields that its functions read; without `uses` all count"
                    raise Fields(f"Prep '{stage.name}'").fail("uses", name, allowed, todo)


__all__ = ["Cluster", "Dataset", "Group", "Job", "Kubernetes", "Prep", "Stage", "Train", "Volume"]


def _workers(fields: Fields, workers: Any) -> int | tuple[int, int]:
    """A number of workers, or a true range of them."""
    if not isinstance(workers, list | tuple):
        fields.integer("workers", workers, 1, MOST_WORKERS)
        return int(workers)
    if len(workers) != 2:
        raise fields.fail("workers", workers, "a number, or the fewest and the most, such as (1, 8)")
    for number in workers:
        fields.integer("workers", number, 1, MOST_WORKERS)
    fewest, most = workers
    if fewest > most:
        raise fields.fail("workers", workers, "the fewest first, then the most", f"write ({most}, {fewest})")
    return int(fewest) if fewest == most else (int(fewest), int(most))


def _stage_fields(fields: Fields, name: object, on: object, timeout_s: object) -> None:
    _name(fields, "name", name, STAGE)
    if not isinstance(on, str) or not on:
        raise fields.fail("on", on, "the name of a group of the cluster")
    if timeout_s is not None:
        fields.number("timeout_s", timeout_s, 0.1)


def check_dataset_name(fields: Fields, field: str, name: object) -> None:
    """Names of datasets become folders on every kind of store."""
    _name(fields, field, name, DATASET)


def _name(fields: Fields, field: str, name: object, kind: Kind) -> None:
    fields.name(field, name, longest=kind.longest, pattern=kind.pattern, words=kind.words)


def _dataset_reference(fields: Fields, field: str, value: object) -> None:
    if isinstance(value, Dataset):
        if value.url is None and value.make is None:
            raise fields.fail(field, value, "a Dataset with a url or a make, or a dataset's name")
        return
    if not isinstance(value, str):
        raise fields.fail(field, value, "a dataset's name or a Dataset")
    if "/" in value or "*" in value:
        raise fields.fail(field, value, "a dataset's name or a Dataset", f"write Dataset(url={value!r}) for a path")
    check_dataset_name(fields, field, value)


def _named(fields: Fields, field: str, value: object, check: Callable[[Fields, str, Any], None], what: str) -> None:
    """One dataset, or several under keys of the job's own."""
    if not isinstance(value, Mapping):
        check(fields, field, value)
        return
    if not value:
        raise fields.fail(field, value, f"at least one {what}")
    for key, each in value.items():
        check(fields, f"{field}[{key!r}]", each)
