"""What pyarrow says when it gives up, met by reading what it stumbles over."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pytest

from runner.data.formats.arrow_words import Trouble, of_error


def trouble_of(read: object, text: bytes, block: int) -> Trouble:
    kind = pajson if read == "json" else pacsv
    with pytest.raises(pa.ArrowInvalid) as raised:
        getattr(kind, f"read_{read}")(io.BytesIO(text), read_options=kind.ReadOptions(block_size=block))
    return of_error(raised.value)


@pytest.mark.parametrize(
    ("read", "text", "block", "trouble"),
    [
        ("csv", b"a,b\n" + b"x" * 500 + b",1\n" + b"y" * 500 + b",2\n", 64, Trouble.BLOCK_TOO_SMALL),
        ("csv", b"", 64, Trouble.OTHER),
        ("json", b'{"a": "' + b"x" * 500 + b'"}\n{"a": "y"}\n', 64, Trouble.BLOCK_TOO_SMALL),
        ("json", b"[1, 2]\n", 1 << 16, Trouble.NO_OBJECT),
        ("csv", b"a,b\n1,2\n3\n", 1 << 16, Trouble.OTHER),
    ],
)
def test_what_pyarrow_stumbles_over(read: str, text: bytes, block: int, trouble: Trouble) -> None:
    """The words of the pyarrow that is installed are known, so that the reader does what helps."""
    assert trouble_of(read, text, block) is trouble
