"""Files of several row groups, of which some can be damaged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILES, GROUPS, ROWS = 8, 3, 20
UNITS = FILES * GROUPS


def write(folder: Path, damaged: Iterable[int] = (), rows: int = ROWS, first: int = 0) -> Path:
    """Files of row groups with page checksums: row i of all has id i; these units are damaged."""
    folder.mkdir(exist_ok=True)
    for number in range(FILES):
        ids = np.arange(number * GROUPS * rows, (number + 1) * GROUPS * rows) + first
        tokens = [[int(i)] * (int(i) % 5 + 1) for i in ids]
        table = pa.table({"id": ids, "tokens": pa.array(tokens, pa.list_(pa.int32()))})
        pq.write_table(
            table, folder / f"{number}.parquet", row_group_size=rows, write_page_checksum=True, compression="none"
        )
    for unit in damaged:
        damage(folder, unit)
    return folder


def damage(folder: Path, unit: int) -> None:
    """Change a byte of the values of a unit."""
    path = folder / f"{unit // GROUPS}.parquet"
    chunk = pq.ParquetFile(path).metadata.row_group(unit % GROUPS).column(0)
    data = bytearray(path.read_bytes())
    data[(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size // 3] ^= 0x40
    path.write_bytes(data)
