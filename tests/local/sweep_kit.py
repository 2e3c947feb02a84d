"""Files of every kind, read by Stream and Prep in a process of its own, and compared with what pyarrow reads.

A case is a folder: `data/` has the files, `expected.arrow` the rows in file order where pyarrow itself is not to be
asked. The child process prints a line for each case before and after, so that a crash or a hang is one case's.
"""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from tests import ROOT

#: Seconds that one case may take on a machine that is busy.
CASE_S = 120


@dataclass(frozen=True)
class Verdict:
    """What became of a case.

    Args:
        what: 'same', 'refused' (a DataError that names the file), 'other' (values), 'raw' (another exception),
            'crashed' or 'hung'.
        said: of what is not the same.
    """

    case: str
    by: str
    what: str
    said: str = ""


def sweep(folders: Sequence[Path]) -> list[Verdict]:
    """The verdicts on all cases; two of each, by Stream and by Prep, unless it ended its process."""
    left, verdicts = list(folders), []
    while left:
        found, current, hung = _child(left)
        verdicts += found
        if current is None:
            return verdicts
        verdicts.append(Verdict(current.name, "process", "hung" if hung else "crashed"))
        left = left[left.index(current) + 1 :]
    return verdicts


def _child(folders: Sequence[Path]) -> tuple[list[Verdict], Path | None, bool]:
    """Verdicts, and the case at which the process ended, if it did before the last."""
    command = [sys.executable, "-m", "tests.local.sweep_kit", *map(str, folders)]
    root = ROOT
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root) as child:
        said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_listen, args=(child.stdout, said), daemon=True).start()
        found: list[Verdict] = []
        current, hung = folders[0], False
        try:
            while (line := said.get(timeout=CASE_S)) is not None:
                told = json.loads(line)
                if "begins" in told:
                    current = Path(told["begins"])
                else:
                    found.append(Verdict(**told))
        except queue.Empty:
            hung = True
            child.kill()
        child.wait()
    return found, None if child.returncode == 0 else current, hung


def _listen(lines: Any, said: queue.Queue[str | None]) -> None:
    for line in lines:
        if line.startswith("{"):
            said.put(line)
    said.put(None)


# -- in the child ----------------------------------------------------------------------------------------------------


def main(folders: Sequence[str]) -> None:
    """Judges each case, and prints what it found."""
    for folder in folders:
        print(json.dumps({"begins": folder}), flush=True)
        for verdict in judge(Path(folder)):
            print(json.dumps(vars(verdict)), flush=True)


def judge(folder: Path) -> Iterator[Verdict]:
    """The verdicts on one case."""
    try:
        expected = reference(folder)
    except Exception as error:  # pyarrow cannot read it, so that nothing but an error can be right
        expected, said = None, f"{type(error).__name__}: {error}"
    for by, read in (("stream", by_stream), ("prep", by_prep)):
        what, words = _tried(folder, read, expected)
        if expected is None and what == "other":
            words = f"values, where pyarrow says {said}"
        yield Verdict(folder.name, by, what, words)


def _tried(folder: Path, read: Any, expected: pa.Table | None) -> tuple[str, str]:
    from runner.errors import InputError, UserCodeError

    try:
        found = read(folder)
    except (InputError, UserCodeError) as error:
        words = " ".join(str(error).split())
        return ("refused" if "allowed: " in words else "raw"), words
    except Exception as error:
        return "raw", f"{type(error).__name__}: {' '.join(str(error).split())}"
    if expected is None:  # of a damaged file some columns may be whole
        columns = found.values() if isinstance(found, dict) else ()
        refused = [rows[0] for rows in columns if rows and isinstance(rows[0], InputError)]
        return ("refused", " ".join(str(refused[0]).split())) if refused else ("other", "")
    return compared(found, expected)


def reference(folder: Path) -> pa.Table:
    """The rows as pyarrow reads them, file by file, without columns of the folders' names."""
    given = folder / "expected.arrow"
    if given.exists():
        with pa.OSFile(str(given)) as source:
            return pa.ipc.open_file(source).read_all()
    tables = [_table(file) for file in sorted(_files(folder), key=lambda file: str(file.relative_to(folder / "data")))]
    return pa.concat_tables(tables, promote_options="permissive")


def _files(folder: Path) -> list[Path]:
    return [f for f in (folder / "data").rglob("*") if f.is_file() and not f.name.startswith((".", "_"))]


def _table(file: Path) -> pa.Table:
    if any(ending in file.name for ending in (".csv", ".json", ".txt")):
        return _table_of_lines(file)
    if file.suffix == ".parquet":
        return pq.ParquetFile(file).read()
    with pa.OSFile(str(file)) as source:
        opened = pa.ipc.open_file if source.read(6) == b"ARROW1" else pa.ipc.open_stream
        source.seek(0)
        return opened(source).read_all()


def _table_of_lines(file: Path) -> pa.Table:
    codec = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}.get(file.suffix)
    with pa.input_stream(str(file), compression=codec) as source:
        if ".csv" in file.name:
            return pacsv.read_csv(source, parse_options=pacsv.ParseOptions(newlines_in_values=True))
        if ".json" in file.name:
            return pajson.read_json(source)
        return pa.table({"text": source.read().decode().splitlines()})


def by_stream(folder: Path) -> dict[str, list[Any]]:
    """All columns that a Stream gives; column by column where it does not give them together: what one cannot give is
    no hindrance for others.
    """
    from runner.data.manifest import build
    from runner.errors import DataError

    manifest = build(str(folder / "data"), count=True)
    names = manifest.schema.names
    if not names:
        raise DataError("no columns", allowed="one or more", where=str(folder))
    try:
        return _columns(manifest, names)
    except DataError:
        pass
    found: dict[str, list[Any]] = {}
    refused: list[DataError] = []
    for name in names:
        try:
            found |= _columns(manifest, [name])
        except DataError as error:
            refused.append(error)
            found[name] = [error]
    if len(refused) == len(found):
        raise refused[0]
    return found


def _columns(manifest: Any, names: list[str]) -> dict[str, list[Any]]:
    from runner import Stream

    found: dict[str, list[Any]] = {name: [] for name in names}
    for batch in Stream(manifest, 7, columns=names, shuffle=False, tail="wrap"):
        real = batch.mask.tolist()
        for name in names:
            found[name] += [row for row, kept in zip(batch[name], real, strict=True) if kept]
    return found


def by_prep(folder: Path) -> pa.Table:
    """What a Prep that changes nothing writes."""
    import shutil
    import tempfile

    from runner.data.catalog import Catalog
    from runner.prep.stage import run_prep
    from runner.spec import Dataset, Prep
    from runner.store import Store
    from runner.worker.pool.base import InlinePool
    from tests.unit.prep.kit import identity, make_scope

    store = Path(tempfile.mkdtemp(prefix="sweep-")) / "store"
    try:
        source = Dataset(url=str(folder / "data"))
        stage = Prep("same", fn=identity, source=source, sink="out", batch_size=100, uses=())
        run_prep(stage, make_scope(store, stage), InlinePool())
        manifest = Catalog(Store(str(store))).latest("out")
        assert manifest is not None
        files = [pq.ParquetFile(manifest.url(shard)).read() for shard in manifest.shards]
        return pa.concat_tables(files, promote_options="permissive")
    finally:
        shutil.rmtree(store.parent, ignore_errors=True)


def compared(found: pa.Table | dict[str, list[Any]], expected: pa.Table) -> tuple[str, str]:
    """'same', or 'other' with the first difference."""
    names = found.schema.names if isinstance(found, pa.Table) else list(found)
    for name in expected.schema.names:
        if name not in names:
            return "other", f"no column '{name}'"
        column = _storage(expected.column(name))
        if not _in_range(column):  # whatever is made of it, there is no value to compare it with
            continue
        if isinstance(found, pa.Table):
            here, there = _shown(found.column(name)), _shown(column)
        else:
            here, there = _streamed(found[name]), _trained(column)
            if here and here[0].startswith("DataError"):
                if "nulls in a column" in here[0] and _has_nulls(column):
                    continue
                return "other", f"column '{name}' of {column.type} is refused: {here[0]}"
        if here != there:
            at = next(
                (i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there))
            )
            return "other", f"column '{name}' of {column.type}, row {at}: {here[at : at + 1]}, not {there[at : at + 1]}"
    return "same", ""


def _storage(column: Any) -> Any:
    """A column of an extension type as what it is kept as."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return pa.chunked_array([pa.array(chunk.to_numpy_ndarray().tolist()) for chunk in column.chunks])
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def _shown(column: Any) -> list[str]:
    """Each value as text that says all of it; of times, which Python may not hold, the instant."""
    if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type):
        texts = (value.cast(pa.string()).as_py() or "" for value in column)
        return [re.sub(r"\.?0*(Z?)$", r"\1", text) if "." in text else text for text in texts]
    return [repr(value) for value in column.to_pylist()]


def _trained(column: Any) -> list[str]:
    """As a batch has them: times are whole numbers of their unit, binary of one width is a list of bytes."""
    kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        whole = pa.int32() if kind.bit_width == 32 else pa.int64()
        return [repr(value) for chunk in column.chunks for value in chunk.view(whole).to_pylist()]
    if pa.types.is_fixed_size_binary(kind) and not column.null_count:
        return [repr(list(value)) for value in column.to_pylist()]
    if pa.types.is_floating(kind):
        return [repr(float("nan") if value is None else value) for value in column.to_pylist()]
    return [repr(value) for value in column.to_pylist()]


def _streamed(values: list[Any]) -> list[str]:
    from runner.errors import DataError

    if values and isinstance(values[0], DataError):
        return [f"DataError: {' '.join(str(values[0]).split())}"]
    return [repr(value.tolist() if hasattr(value, "tolist") else value) for value in values]


def _has_nulls(column: Any) -> bool:
    """Whether a null is in it at any depth."""
    return "None" in repr(column.to_pylist())


def _in_range(column: Any) -> bool:
    """Whether Python can hold every value."""
    try:
        column.to_pylist()
    except (ValueError, LookupError, ArithmeticError, SystemError, pa.ArrowException):
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
