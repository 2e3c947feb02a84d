"""A unit in a temporary file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from runner.data.stream.spill import PIECE_BYTES, Spill


def test_a_page_that_came_out_as_one_is_read_in_pieces() -> None:
    """Whoever wants a row reads the rows around it, and not all that the decoder gave at once."""
    values = [bytes(np.random.default_rng(i).integers(0, 256, 50_000, np.uint8)) for i in range(200)]
    whole = pa.record_batch({"x": pa.array(values, pa.binary()), "i": list(range(200))})
    kept = Spill(iter([whole.slice(0, 0), whole.slice(0, 190), whole.slice(190)]))
    pieces = list(kept.batches())
    assert max(piece.nbytes for piece in pieces) <= PIECE_BYTES
    assert pa.Table.from_batches(pieces).equals(pa.Table.from_batches([whole]))
    found = kept.rows(39, 45)
    assert pa.Table.from_batches(found).equals(pa.Table.from_batches([whole.slice(39, 6)]))
    assert all(part.column(0).buffers()[2].size <= PIECE_BYTES for part in found)
