"""Files that somebody has made who wants to run code, or to fill the memory, of whoever reads them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NAME, METADATA = b"ARROW:extension:name", b"ARROW:extension:metadata"


# -- extension types -------------------------------------------------------------------------------------------------


class Trap(pa.ExtensionType):
    """A type whose code runs when a column of it is made: it notes that."""

    made: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__(pa.binary(), "test.trap")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Trap:
        cls.made.append("type")
        return cls()

    def __arrow_ext_scalar_class__(self) -> Any:
        self.made.append("value")
        return pa.ExtensionScalar


@contextlib.contextmanager
def registered() -> Iterator[list[str]]:
    """While it lasts pyarrow knows the type; gives the list of what its code was called for."""
    Trap.made.clear()
    pa.register_extension_type(Trap())
    Trap.made.clear()
    try:
        yield Trap.made
    finally:
        pa.unregister_extension_type("test.trap")


def trapped(name: str = "v", kind: pa.DataType | None = None, nullable: bool = True) -> pa.Field:
    """A field that says that it is of the type."""
    marks = {NAME: b"test.trap", METADATA: b""}
    return pa.field(name, kind or pa.binary(), nullable, metadata=marks)


def trapped_columns() -> dict[str, tuple[pa.Field, pa.Array]]:
    """Columns with the type at every place that it can have, as storage; none has nulls."""
    values = pa.array([b"a", b"b"])
    inner = pa.struct([trapped("i")])
    pairs = pa.map_(pa.field("k", pa.string(), nullable=False), trapped("value"))
    dictionary = pa.dictionary(pa.int32(), pa.binary())
    return {
        "plain": (trapped(), values),
        "list": (pa.field("v", pa.list_(trapped("i"))), pa.array([[b"a"], [b"b", b"c"]])),
        "large": (pa.field("v", pa.large_list(trapped("i"))), pa.array([[b"a"], []], pa.large_list(pa.binary()))),
        "fixed": (pa.field("v", pa.list_(trapped("i"), 1)), pa.array([[b"a"], [b"b"]], pa.list_(pa.binary(), 1))),
        "struct": (pa.field("v", inner), pa.array([{"i": b"a"}, {"i": b"b"}])),
        "deep": (
            pa.field("v", pa.list_(pa.field("i", pa.struct([pa.field("j", pa.list_(trapped("k")))])))),
            pa.array([[{"j": [b"a"]}], []]),
        ),
        "map": (pa.field("v", pairs), pa.array([[("k", b"a")], []], pa.map_(pa.string(), pa.binary()))),
        "dictionary": (trapped(kind=dictionary), values.dictionary_encode()),
    }


def marked_table(field: pa.Field, array: pa.Array) -> pa.Table:
    """A table whose schema says that `array` is of the type, as a file's may."""
    column = pa.Array.from_buffers(field.type, len(array), *_parts(array, field.type)) if _nested(field) else array
    return pa.Table.from_arrays([pa.array([1, 2]), column], schema=pa.schema([pa.field("x", pa.int64()), field]))


def _nested(field: pa.Field) -> bool:
    return bool(pa.types.is_nested(field.type))


def _parts(array: pa.Array, kind: pa.DataType) -> tuple[list[Any], int, int, list[pa.Array]]:
    """Buffers, nulls, offset and children of an array whose inner fields are to have marks."""
    children = [_child(array, i) for i in range(array.type.num_fields)]
    made = [
        pa.Array.from_buffers(kind.field(i).type, len(child), *_parts(child, kind.field(i).type))
        for i, child in enumerate(children)
    ]
    count = 1 if pa.types.is_struct(array.type) or pa.types.is_fixed_size_list(array.type) else 2
    count = count if pa.types.is_nested(array.type) else len(array.buffers())
    return array.buffers()[:count], array.null_count, 0, made


def _child(array: pa.Array, index: int) -> pa.Array:
    return array.field(index) if pa.types.is_struct(array.type) else array.values


def write(table: pa.Table, path: Path, compression: str | None = None) -> Path:
    """The table in the format that the ending says."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, compression=compression or "none")
        return path
    options = pa.ipc.IpcWriteOptions(compression=compression)
    opened = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, opened(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return path


# -- Thrift, as Parquet has it ---------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """Seven bits at a time."""
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def number(value: int) -> bytes:
    """A signed number."""
    return varint((value << 1) ^ (value >> 63))


class Long(int):
    """A whole number of 64 bit."""


def thrift(*fields: tuple[int, int | bytes | list[bytes]]) -> bytes:
    """A struct of (id, value).

    Args:
        fields: values are whole numbers (32 bit, or a `Long`), bytes that are a struct, text (bytes behind a quote),
            and lists of structs.
    """
    out, last = b"", 0
    for id, value in fields:
        kind = 6 if isinstance(value, Long) else 5 if isinstance(value, int) else 9 if isinstance(value, list) else 12
        kind = 8 if isinstance(value, bytes) and value[:1] == b'"' else kind
        out, last = out + bytes([(id - last) << 4 | kind]), id
        if isinstance(value, int):
            out += number(value)
        elif isinstance(value, list):
            head = bytes([len(value) << 4 | 12]) if len(value) < 15 else b"\xfc" + varint(len(value))
            out += head + b"".join(value)
        else:
            out += varint(len(value) - 1) + value[1:] if kind == 8 else value
    return out + b"\0"


def parquet_file(footer: bytes, body: bytes = b"") -> bytes:
    """A file of a footer and what comes before it."""
    return b"PAR1" + body + footer + struct.pack("<I", len(footer)) + b"PAR1"


def deep_schema(levels: int) -> bytes:
    """A file whose one column lies in so many groups."""
    groups = [thrift((3, 0), (4, b'"g'), (5, 1)) for _ in range(levels)]
    elements = [thrift((4, b'"root'), (5, 1)), *groups, thrift((1, 1), (3, 0), (4, b'"x'))]
    return parquet_file(thrift((1, 2), (2, elements), (3, Long(0)), (4, [])))


def many_claimed(count: int) -> bytes:
    """A file whose schema claims so many elements, and has none."""
    return parquet_file(b"\x15\x04\x19\xfc" + varint(count) + bytes(8))


def parquet_page(
    page: bytes,
    uncompressed: int,
    values: int,
    *,
    rows: int,
    codec: int = 6,
    encoding: int = 0,
    kind: int = 1,
    dictionary: bytes | None = None,
    claimed: int | None = None,
) -> bytes:
    """A file of one column chunk with one data page, whose header says what it is told to.

    Args:
        page: its bytes, compressed.
        uncompressed, values, encoding: what the header says.
        rows: of the row group, as the footer has them; `claimed` are the values, if others.
        codec: 0 none, 6 zstd. kind: 1 INT32, 2 INT64, 6 strings.
        dictionary: a page of plain strings before it, not compressed.
    """
    body = b""
    if dictionary is not None:
        entries = thrift((1, 1), (2, 0))
        body += thrift((1, 2), (2, len(dictionary)), (3, len(dictionary)), (7, entries)) + dictionary
    start = 4 + len(body)
    data = thrift((1, values), (2, encoding), (3, 3), (4, 3))
    body += thrift((1, 0), (2, uncompressed), (3, len(page)), (5, data)) + page
    schema = [thrift((4, b'"root'), (5, 1)), thrift((1, kind), (3, 0), (4, b'"x'))]
    chunk = b"\x15" + number(kind) + b"\x19\x15" + number(encoding) + b"\x19\x18" + varint(1) + b"x"
    chunk += b"\x15" + number(codec) + b"\x16" + number(values if claimed is None else claimed)
    chunk += b"\x16" + number(len(body)) + b"\x16" + number(len(body)) + b"\x26" + number(start)
    chunk += (b"\x26" + number(4) if dictionary is not None else b"") + b"\0"
    columns = b"\x19\x1c" + b"\x26" + number(4) + b"\x1c" + chunk + b"\0"
    group = columns + b"\x16" + number(len(body)) + b"\x16" + number(rows) + b"\0"
    footer = b"\x15\x04" + b"\x19\x2c" + b"".join(schema) + b"\x16" + number(rows) + b"\x19\x1c" + group + b"\0"
    return parquet_file(footer, body)


def plain_strings(*values: bytes) -> bytes:
    """The bytes of a page of strings."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def zeros(count: int) -> np.ndarray[Any, Any]:
    """Bytes that compress to nearly none."""
    return np.zeros(count, np.int8)
