"""runner.Stream: batches straight from files, in an order that is the same for any number of ranks."""

from __future__ import annotations

import copy
import operator
import os
import sys
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from runner.code import extras
from runner.data.files.fetch.cache import folder_in, free_share
from runner.data.formats.columns import check_columns
from runner.data.stream.ahead import ReadAhead
from runner.data.stream.batch import Batch, make_batch
from runner.data.stream.data import Mixture, found
from runner.data.stream.passes import Passes
from runner.data.stream.quarantine import SetAside, stored
from runner.data.stream.reading import LONGEST_WAIT_S, MOST_WAIT_S, READY_BYTES, Reading, default_threads
from runner.data.stream.stats import NOTHING, Stats
from runner.data.stream.steps import Cut, Ready
from runner.errors import DataError, SpecError, listed
from runner.spec.checks import Fields, parse_bytes

if TYPE_CHECKING:
    from runner.data.manifest import Manifest
    from runner.data.source_manifest import Published
    from runner.data.stream.ahead import Changed, Through
    from runner.data.stream.media.steps import Decoding
    from runner.data.stream.quarantine import Quarantine
    from runner.spec import Dataset
    from runner.spec.media import Declared
    from runner.spec.mixing import Mix
    from runner.spec.packing import Pack

    Source: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Dataset | Published | Manifest | Mix

#: Positions are 64 bit, those of batches ahead included.
_LAST_POSITION = 2**62
#: Rows of a global batch.
_MOST_ROWS = 2**31 - 1


class Stream:
    """An iterator of batches.

    The rows of a step, the global batch, are the next `global_batch` positions of the order; they are cut
    into `world_size` slices. Every rank gets the same number of steps. Each pass over the stream goes on with
    the next epochs, so ``for batch in stream`` may be written in a loop.

    A stream may be given to a `DataLoader` (with ``batch_size=None``): its workers take turns, a step each, so that
    the loader gives the same batches in the same order for any number of them. It can be pickled, and goes on in a
    forked process at the same place. A stream that is made inside a worker is that worker's alone.

    Args:
        source: a URL (file, folder or glob) or a list of them, a Dataset with a URL, what `runner.dataset` gives, a
            Manifest, or a Mix of such.
        batch_size: rows of this rank; the global batch is `world_size` times as large.
        global_batch_size: rows of all ranks, instead of `batch_size`; ranks may then differ by one row.
        seed: of the order.
        rank, world_size: which slice of each global batch is this one's.
        columns: the columns wanted; None takes all.
        filter: the rows that are kept: an expression such as ``pyarrow.compute.field("lang") == "en"``, or a pure
            function of a RecordBatch (of all columns) that gives a boolean for each row; or a pair of it and the names
            of the columns that it looks at. They need not be among `columns`.
        decode: columns of pictures, sounds and videos: ``{"image": Image("RGB", 224, crop="random")}``; see `Image`,
            `Audio` and `Video`. Crops, starts and mirrors depend on the seed, the epoch and the position alone.
        pack: documents, of the rows that are kept, as rows of one length; see `Pack`.
        shuffle: False gives the file order.
        epochs: of one pass; None never ends.
        tail: 'drop' leaves out the rows at the end of an epoch that fill no global batch, 'wrap' fills them
            up with the first rows of the epoch, whose `mask` is False.
        format, options, schema, unknown, csv, version, snapshot: of URLs, as of `Dataset`.
        start_epoch: the first epoch.
        prefetch_bytes: decoded bytes that may be ready ahead (a number, or '32MiB').
        as_: 'torch' gives tensors, 'numpy' numpy's arrays, 'arrow' Arrow's; see `Batch`.
        threads: that decode; None: as many as this machine has to spare for it.
        memory_bytes: that the stream may take besides the batches that are in use (a number, or '200MiB'); None: 150 to
            300 MB, if units are not large. A unit that is too large for it is decoded into a temporary file.
        cache: a folder on a disk of this machine where what is fetched of remote files is kept, for all processes of
            the user, and read from there in later epochs and runs.
        cache_bytes: that may be kept there (a number, or '200GiB'); None: half of what is free.
        timeout_s: seconds after which data that does not come is an error.
        max_quarantine: the largest share (0 to 1) of the rows that may be in units whose content cannot be read. Such a
            unit is set aside, and the rows of another one stand in for its own; by default it is an error. Of a mixture
            the share is of each source.
        verify: whether each file is read whole once, before its first unit, and its hash compared with what was listed,
            where that is known: what no checksum in the file would tell is then seen too.

    Raises:
        MissingPackage: tensors are wanted, and torch is not installed.
        SpecError: an argument is out of its range.
        DataError: the data cannot be read, is empty, or has not the columns; or it has fewer rows than a
            global batch and ``tail="drop"``.

    Attributes:
        rows: of an epoch.
        wait_s: seconds that the consumer waited for data.
        rows_read, bytes_read: decoded by this rank.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int | None = None,
        *,
        global_batch_size: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        columns: Sequence[str] | None = None,
        filter: Any = None,
        decode: Mapping[str, Declared] | None = None,
        pack: Pack | None = None,
        shuffle: bool = True,
        epochs: int | None = 1,
        tail: str = "drop",
        format: str | None = None,
        options: Mapping[str, Any] | None = None,
        schema: Any = None,
        unknown: str | None = None,
        csv: Mapping[str, Any] | None = None,
        version: int | None = None,
        snapshot: int | None = None,
        start_epoch: int = 0,
        prefetch_bytes: int | str = READY_BYTES,
        as_: str = "torch",
        threads: int | None = None,
        memory_bytes: int | str | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int | str | None = None,
        timeout_s: float = LONGEST_WAIT_S,
        max_quarantine: float = 0.0,
        verify: bool = False,
    ) -> None:
        fields = Fields("Stream")
        fields.one_of("as_", as_, ("torch", "numpy", "arrow"))
        if as_ == "torch":
            extras.need("train", "runner.Stream of torch's tensors (as_='numpy' gives arrays)", module="torch")
        batch_size, global_batch_size, epochs = as_whole(batch_size), as_whole(global_batch_size), as_whole(epochs)
        seed, start_epoch = as_whole(seed), as_whole(start_epoch)
        rank, world_size = as_whole(rank), as_whole(world_size)
        fields.integer("world_size", world_size, 1)
        fields.integer("rank", rank, 0, world_size - 1)
        fields.integer("seed", seed, 0)
        fields.one_of("tail", tail, ("drop", "wrap"))
        if epochs is not None:
            fields.integer("epochs", epochs, 1)
        fields.number("max_quarantine", max_quarantine, 0.0, 1.0)
        fields.flag("shuffle", shuffle)
        fields.flag("verify", verify)
        columns = None if columns is None else fields.names("columns", columns)
        self.global_batch = _global_batch(fields, batch_size, global_batch_size, world_size)
        self.rank, self.world_size, self.epochs, self.tail, self._seed = rank, world_size, epochs, tail, seed
        declared = {"schema": schema, "unknown": unknown, "csv": csv, "version": version, "snapshot": snapshot}
        cut = self.global_batch, tail
        self._data = found(
            source,
            columns,
            filter,
            pack,
            cut,
            seed,
            shuffle,
            max_quarantine,
            format=format,
            options=options,
            **declared,
        )
        self.columns = tuple(self._data.schema.names if columns is None else columns)
        check_columns(self.columns, self._data.schema.names, where=self._data.where)
        self._decode = self._checked_decode(fields, decode, as_)
        self.rows = self._data.order.rows
        fields.integer("start_epoch", start_epoch, 0, _LAST_POSITION // self.rows)
        if tail == "drop" and self.rows < self.global_batch:
            raise DataError(
                f"{self.rows} rows, and a global batch of {self.global_batch}",
                allowed="at least one global batch with tail='drop'",
                todo="use a smaller batch, or tail='wrap'",
                where=self._data.where,
            )
        if epochs is not None:  # with what fills the last batch of each
            fields.integer("epochs", epochs, 1, _LAST_POSITION // (self.rows + self.global_batch) - start_epoch)
        self._passes = Passes(self.rows, self.global_batch, tail, start_epoch, epochs)
        self._at_home = worker_share() is None  # made outside of a DataLoader's workers
        if threads is not None:
            fields.integer("threads", threads, 1)
        self._threads = threads or default_threads()
        fields.number("timeout_s", timeout_s, 0)
        reading = Reading(
            self.columns,
            as_,
            self._threads,
            ready_bytes=_bytes(fields, "prefetch_bytes", prefetch_bytes),
            timeout_s=min(timeout_s, MOST_WAIT_S),
            cache=_cache(fields, cache, cache_bytes),
            verify=verify,
        )
        memory = None if memory_bytes is None else _bytes(fields, "memory_bytes", memory_bytes)
        self._readings = self._data.readings(reading, memory, world_size)
        self._through: tuple[Through, ...] = ()
        self._open()
        if as_ == "torch" or "torch.utils.data" in sys.modules:
            _make_known()

    def __repr__(self) -> str:
        rank = f", rank {self.rank} of {self.world_size}" if self.world_size > 1 else ""
        return f"<Stream of {self._data.where}: {self.rows:,} rows in steps of {self.global_batch:,}{rank}>"

    def _open(self, before: Stats = NOTHING) -> None:
        opens = self._data.opens(self._readings)
        ready_bytes = sum(reading.ready_bytes for reading in self._readings)
        changed = self._changed(ready_bytes)
        self._ahead = ReadAhead(opens, self._data.order, ready_bytes, changed, before)

    def pass_through(self, through: Through) -> None:
        """From the next pass on, have batches changed on their way, ahead of the consumer and within the same bounds;
        behind what was given before. Their places in the order stay what they are.
        """
        self.close()
        self._through = (*self._through, through)
        self._open(self.stats())

    def hand_over_decoding(self) -> Decoding | None:
        """What is to be decoded of batches, which come without that from now on: somebody else does it."""
        self.close()
        decoding, self._decode = self._decoding(sum(reading.ready_bytes for reading in self._readings)), {}
        self._open(self.stats())
        return decoding

    def _changed(self, ready_bytes: int) -> Changed | None:
        decoding = self._decoding(ready_bytes)
        stages = [decoding.decoded] if decoding is not None else []
        stages += [through.transformed for through in self._through]
        return (lambda steps: reduce(lambda before, stage: stage(before), stages, steps)) if stages else None

    def _decoding(self, ready_bytes: int) -> Decoding | None:
        if not self._decode:
            return None
        from runner.data.stream.media.steps import Decoding

        return Decoding(self._decode, self._seed, self.rows, self._threads, ready_bytes, self._data.place)

    def _checked_decode(self, fields: Fields, decode: Mapping[str, Declared] | None, as_: str) -> dict[str, Declared]:
        if not decode:
            return {}
        from runner.spec.images import Image
        from runner.spec.media import Declared

        if not isinstance(decode, Mapping) or not all(isinstance(one, Declared) for one in decode.values()):
            raise fields.fail("decode", decode, "column -> runner.Image, runner.Audio or runner.Video")
        if as_ == "arrow":
            raise fields.fail("as_", as_, "'torch' or 'numpy' with decode=")
        if any(isinstance(one, Image) for one in decode.values()):
            extras.need("images", "runner.Stream(decode=)")
        if not all(isinstance(one, Image) for one in decode.values()):
            from runner.data.stream.media import codec

            codec.decoders("runner.Stream(decode=)")
        from runner.data.stream.media.steps import check

        check_columns(list(decode), self.columns, where=self._data.where)
        check(decode, self._data.schema, self.columns)
        return dict(decode)

    @property
    def manifest(self) -> Manifest:
        """Of the data, as `filter` and `pack` make it. Raises AttributeError of a mixture, which has several."""
        if isinstance(self._data, Mixture):
            raise AttributeError(f"a mixture of {listed(self.sources)} has no manifest of its own; see `manifests`")
        return self._data.manifest

    @property
    def manifests(self) -> Mapping[str, Manifest]:
        """Of each source of a mixture by its name; else of the data, without a name."""
        return self._data.manifests

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of a mixture's sources, to which `Batch.sources` refers; else none."""
        return tuple(self._data.manifests) if isinstance(self._data, Mixture) else ()

    @property
    def quarantines(self) -> Mapping[str, Quarantine]:
        """What is set aside of each source of a mixture by its name, else of the data without a name; none where a
        unit that cannot be read is an error."""
        return self._data.quarantines

    @property
    def quarantined(self) -> list[SetAside]:
        """The units that this stream has set aside because they cannot be read."""
        return [one for quarantine in self._data.quarantines.values() for one in quarantine.units]

    # -- iteration -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Stream:
        self._arrive()
        if self._passes.begun is not None and self._share != (0, 1):
            self.close()
            self._passes.leave()  # workers stand at different steps, so what was broken off cannot be gone on with
        if self._passes.over:
            self._passes.begin_next()
        return self

    @property
    def _share(self) -> tuple[int, int]:
        """(number, of how many): which steps are this process's."""
        return (worker_share() if self._at_home else None) or (0, 1)

    def __next__(self) -> Batch:
        if self._passes.over:
            raise StopIteration
        self._arrive()
        made = None
        try:  # Ctrl-C may come anywhere: a batch that is not given is read again
            with self._ahead.taking:
                if self._passes.over:
                    raise StopIteration
                if self._ahead.running is None:
                    self._run()
                ready = self._ahead.next()
                if ready is not None:
                    made, after = self._made(ready), ready.after
        except BaseException as error:
            self._passes.over = isinstance(error, StopIteration)
            self.close()
            raise
        if made is None:  # another thread closed it: this loop ends, and the next one goes on
            raise StopIteration
        if after > self._passes.at:  # or another thread has taken the next one meanwhile
            self._passes.at = after  # last, and no call comes behind it: there Ctrl-C would take the batch away
        return made

    def _made(self, ready: Ready) -> Batch:
        return make_batch(
            ready.columns,
            ready.positions,
            ready.mask,
            ready.weight,
            ready.epoch,
            self._readings[0].as_,
            ready.sources,
        )

    def _run(self) -> None:
        passes, (number, parts) = self._passes, self._share
        if passes.begun is None:
            passes.begun = passes.at
        share = (number - passes.steps_made) % parts, parts
        cut = Cut(self.global_batch, self.rank, self.world_size, self.tail)
        self._ahead.start(cut, passes.at, passes.end, share)

    def __len__(self) -> int:
        """Steps of a whole pass. Raises TypeError if it never ends."""
        steps = self._passes.steps
        if steps is None:
            raise TypeError("a Stream with epochs=None has no length")
        return steps

    @property
    def steps_left(self) -> int | None:
        """Steps from here to the end of the pass; None if it never ends."""
        return self._passes.steps_left

    @property
    def wait_s(self) -> float:
        """Seconds that the consumer waited for data."""
        return self._ahead.wait_s

    @property
    def rows_read(self) -> int:
        """Rows decoded by this rank."""
        return self._ahead.stats.rows

    @property
    def bytes_read(self) -> int:
        """Bytes decoded by this rank."""
        return self._ahead.stats.bytes

    def stats(self) -> Stats:
        """What has been read so far, what of it was fetched from other machines, and how long was waited."""
        return self._ahead.stats

    def close(self) -> None:
        """Stops reading ahead; from any thread. The next batch starts it again at the same place: a loop that waits for
        one in another thread meanwhile ends.
        """
        self._arrive()
        self._ahead.stop(self._through)

    def _arrive(self) -> None:
        """In a forked process the steps are shared out anew from here on."""
        if self._ahead.arrive():
            self._passes.begun = None

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_ahead"}
        stats = self.stats()
        before = Stats(seconds=stats.seconds, wait_s=stats.wait_s)
        return {**kept, "_passes": copy.copy(self._passes), "_before": before}

    def __setstate__(self, state: dict[str, Any]) -> None:
        before = state.pop("_before")
        self.__dict__.update(state)
        self._open(before)
        self._passes.begun = None
        _make_known()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- state ---------------------------------------------------------------------------------------------------

    def mark(self) -> None:
        """Says that all batches handed out so far are consumed.

        From the first call on, `state_dict` gives the place of the last mark; a loop that never marks counts
        every batch that it took.
        """
        self._passes.mark()

    def state_dict(self) -> dict[str, Any]:
        """The place in the order, and what the order depends on: a small dict that JSON can hold."""
        epoch, seen = self._passes.consumed
        state = {**self._identity(epoch * self.rows + seen), "epoch": epoch, "samples_seen": seen}
        aside = {name: one.known for name, one in self._data.quarantines.items()}
        kept = {name: {str(unit): words for unit, words in known.items()} for name, known in aside.items() if known}
        return {**state, "quarantine": kept} if kept else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to the place of a state, in constant time. Rank, world size and batch size may be others.

        What was set aside then is again, whatever can be read of it now.

        Raises:
            DataError: the state is of other data, another seed or another order; what differs is named. Or units were
                set aside of which this stream may set none aside, or not so many.
        """
        place = [state.get("epoch"), state.get("samples_seen")]
        most = _LAST_POSITION // self.rows, self.rows
        is_place = all(type(value) is int and 0 <= value <= bound for value, bound in zip(place, most, strict=True))
        position = int(state["epoch"]) * self.rows + int(state["samples_seen"]) if is_place else 0
        differing = [
            f"{name} is {state.get(name)!r} in the state and {value!r} here"
            for name, value in self._identity(position).items()
            if state.get(name) != value
        ]
        if not is_place:
            differing.append(f"epoch and samples_seen are {place}, of {self.rows} rows an epoch")
        if differing:
            raise DataError(
                f"a state of another order: {'; '.join(differing)}",
                allowed="a state of the same data, seed, shuffle and tail",
                todo="give the same arguments as the run that wrote the state, or start without it",
                where=self._data.where,
            )
        self._set_aside(state.get("quarantine", {}))
        self.close()
        self._passes.go_to(int(state["epoch"]), int(state["samples_seen"]))

    def _set_aside(self, kept: Any) -> None:
        """What a state says is set aside."""
        known = stored(kept, {name: len(one.units) for name, one in self._data.manifests.items()}, self._data.where)
        if known and not self._data.quarantines:
            raise DataError(
                f"a state with units that are set aside ({sum(map(len, known.values()))})",
                allowed="max_quarantine= of the stream that wrote it, for their rows were others'",
                todo="give max_quarantine=, or start without the state",
                where=self._data.where,
            )
        for name, one in self._data.quarantines.items():
            one.check(known.get(name, {}))  # all of them first: a state that is refused changes nothing
        changed = [one.restore(known.get(name, {})) for name, one in self._data.quarantines.items()]
        if any(changed):
            self.close()
            self._open(self.stats())  # what is held may be of a unit that is set aside now, or was before

    def _identity(self, position: int) -> dict[str, Any]:
        """What the positions below this one depend on."""
        return {"tail": self.tail, **self._data.identity(position)}


def as_whole(value: Any) -> Any:
    """Whole numbers of numpy and others as Python's; anything else as it is."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def worker_share() -> tuple[int, int] | None:
    """(number, of how many) where this process is a worker of a DataLoader, else None."""
    data = sys.modules.get("torch.utils.data")  # whoever is a worker has loaded it
    info = None if data is None else data.get_worker_info()
    return None if info is None else (info.id, info.num_workers)


def _make_known() -> None:
    """DataLoader asks whether it is given an IterableDataset, and puts items together unless it is told not to."""
    from torch.utils.data import IterableDataset
    from torch.utils.data._utils.collate import default_collate_fn_map

    IterableDataset.register(Stream)
    default_collate_fn_map[Batch] = _not_collated


def _not_collated(*_: Any, **__: Any) -> NoReturn:
    raise SpecError(
        "DataLoader(stream) that puts items together, which are batches already",
        allowed="DataLoader(stream, batch_size=None)",
        todo="give batch_size=None to the DataLoader, and the rows of a batch to the Stream",
    )


def _cache(
    fields: Fields, folder: str | os.PathLike[str] | None, most_bytes: int | str | None
) -> tuple[Path, int] | None:
    if folder is None:
        if most_bytes is not None:
            raise fields.fail("cache_bytes", most_bytes, "None without cache=", "say where: cache='/a/folder'")
        return None
    most = None if most_bytes is None else _bytes(fields, "cache_bytes", most_bytes)
    kept = folder_in(folder)
    return kept, free_share(kept) if most is None else most


def _bytes(fields: Fields, name: str, value: int | str) -> int:
    found = parse_bytes(fields, name, value) if isinstance(value, str) else value
    fields.integer(name, found, 1)
    return found


def _global_batch(fields: Fields, batch_size: int | None, global_batch_size: int | None, world_size: int) -> int:
    if (batch_size is None) == (global_batch_size is None):
        raise fields.fail("batch_size", batch_size, "either batch_size or global_batch_size")
    if batch_size is not None:
        fields.integer("batch_size", batch_size, 1, _MOST_ROWS)
        fields.integer("batch_size * world_size", batch_size * world_size, 1, _MOST_ROWS)
        return batch_size * world_size
    fields.integer("global_batch_size", global_batch_size, world_size, _MOST_ROWS)
    assert global_batch_size is not None
    return global_batch_size
