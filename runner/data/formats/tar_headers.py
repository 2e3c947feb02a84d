"""The members of a tar archive: names, places and sizes from its headers, without its bodies.

ustar, GNU and pax headers, as POSIX.1-2001 (pax, "ustar Interchange Format") and the manual of GNU tar have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from runner.errors import DataError

#: Headers are blocks of so many bytes, and bodies fill whole ones.
BLOCK = 512
#: Bytes of what a header may say besides: a long name, pax records.
_MOST_EXTRA = 1 << 20
_REGULAR, _FOLDER = (b"0", b"\0", b"7"), b"5"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _VOLUME = b"L", b"K", b"x", b"g", b"V"
_REFUSED = {
    b"1": ("a hard link", "write the archive with --hard-dereference"),
    b"2": ("a symbolic link", "write the archive with --dereference"),
    b"3": ("a device", "leave it out of the archive"),
    b"4": ("a device", "leave it out of the archive"),
    b"6": ("a named pipe", "leave it out of the archive"),
    b"S": ("a sparse file", "write the archive without --sparse"),
    b"M": ("a file that began in another volume", "write one archive instead of several volumes"),
}
_SPARSE = "GNU.sparse."


class Source(Protocol):
    """What headers are read from, in rising order of places."""

    def take(self, at: int, count: int) -> bytes | memoryview:
        """`count` bytes from `at` on, fewer at the end; of a block (BLOCK) or less always bytes."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in the archive.

    Args:
        name: its path.
        header: where its first header begins.
        start, size: bytes of its body.
    """

    name: str
    header: int
    start: int
    size: int

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.start + padded(self.size)


def padded(size: int) -> int:
    """Bytes of whole blocks."""
    return -(-size // BLOCK) * BLOCK


def members(source: Source, at: int = 0, end: int | None = None, *, whole: bool = True) -> Iterator[Member]:
    """The regular files of an archive, or of a stretch of one, in order; folders are left out.

    An archive that was written behind another one, as by `cat`, is read too.

    Args:
        at, end: of the stretch; `end` None: as far as there is something, for an archive of unknown length.
        whole: whether the stretch goes to the archive's end, where there is a block of zeros.

    Raises:
        DataError: it is no archive, is truncated, or has a member that is no file as it stands.
    """
    extra = _Extra()
    first, ended = at, False
    begins = None
    while end is None or at < end:
        block = bytes(source.take(at, BLOCK))
        if not block and end is None:
            break
        if len(block) < BLOCK:
            raise _truncated(at, "a header")
        if not block.strip(b"\0"):
            at, ended = at + BLOCK, True
            continue
        head = _Header(block, at, first)
        ended, begins = False, at if begins is None else begins
        body, at = at + BLOCK, at + BLOCK
        size = extra.size if extra.size >= 0 and head.kind in _REGULAR else head.size
        if end is not None and body + size > end:
            raise _truncated(body, f"a member of {size:,} bytes")
        at = body + padded(size)
        if head.kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            extra.add(head, _said(source, body, size))
            continue
        if head.kind in _REGULAR:
            name = extra.name or head.name
            if not (head.kind == b"\0" and name.endswith("/")):  # a folder of the oldest archives
                yield Member(_checked(name, body), begins, body, size)
        elif head.kind not in (_FOLDER, _VOLUME):
            raise _no_file(head.kind, extra.name or head.name)
        extra.clear()
        begins = None
    if begins is not None or (whole and not ended):
        raise _truncated(at, "its end, which is a block of zeros")


class _Header:
    """A block that is a header.

    Args:
        first: where the archive should begin.
    """

    def __init__(self, block: bytes, at: int, first: int) -> None:
        if not _is_header(block):
            if at == first:
                raise DataError(
                    "it is no tar archive", allowed="a tar archive", todo="give format= if the ending misleads"
                )
            raise DataError(
                f"a damaged header at byte {at:,}",
                allowed="headers whose checksums hold",
                todo="fetch or write the archive anew",
            )
        self.kind = block[156:157]
        self.size = _number(block[124:136], "size", at) if self.kind != _FOLDER else 0
        name = _text(block[:100].partition(b"\0")[0], at)
        prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
        self.name = f"{_text(prefix, at)}/{name}" if prefix else name
        self.at = at


class _Extra:
    """What the headers before a member's own say of it."""

    def __init__(self) -> None:
        self.name, self.size = "", -1

    def clear(self) -> None:
        """They were said of one member."""
        self.name, self.size = "", -1

    def add(self, head: _Header, said: bytes) -> None:
        """The body of such a header."""
        if head.kind == _LONG_NAME:
            self.name = _text(said.partition(b"\0")[0], head.at)
        elif head.kind in (_PAX, _PAX_GLOBAL):
            for key, value in _records(said, head.at):
                self._take(key, value, head)

    def _take(self, key: str, value: bytes, head: _Header) -> None:
        if key.startswith(_SPARSE):
            raise _no_file(b"S", self.name or head.name)
        if key not in ("path", "size"):
            return
        if head.kind == _PAX_GLOBAL:
            raise DataError(
                f"one {key} for all members (byte {head.at:,})",
                allowed="for each member its own",
                todo="write the archive anew",
            )
        if key == "path":
            self.name = _text(value, head.at)
        elif value.isdigit() and len(value) < 20:
            self.size = int(value)
        else:
            raise _bad_number("size", value, head.at)


def _is_header(block: bytes) -> bool:
    """Whether the checksum holds: the sum of all bytes, its own being spaces; some have added signed bytes."""
    digits = block[148:156].partition(b"\0")[0].strip()
    if not digits or digits.strip(b"01234567"):
        return False
    told, own = int(digits, 8), block[148:156]
    plain = sum(block) - sum(own) + len(own) * ord(" ")
    return told == plain or told == plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _said(source: Source, at: int, size: int) -> bytes:
    if size > _MOST_EXTRA:
        raise DataError(
            f"a header of {size:,} bytes (byte {at:,})",
            allowed=f"names and pax records of up to {_MOST_EXTRA:,} bytes",
            todo="write the archive anew",
        )
    said = bytes(source.take(at, size))  # of what is in memory long stretches are views
    if len(said) < size:
        raise _truncated(at, "a header")
    return said


def _records(said: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    """pax records: '<length of all> <key>=<value>\\n'."""
    place = 0
    while place < len(said) and said[place : place + 1] != b"\0":
        digits, space, _ = said[place : place + 20].partition(b" ")
        length = int(digits) if digits.isdigit() and space else 0
        record = said[place + len(digits) + 1 : place + length]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or place + length > len(said):
            raise DataError(
                f"damaged pax records (byte {at:,})",
                allowed="records of a length, a key and a value",
                todo="fetch or write the archive anew",
            )
        yield _text(key, at), value[:-1]
        place += length


def _number(field: bytes, what: str, at: int) -> int:
    """Octal digits, or GNU's two's complement where the first bit is set."""
    if not field[0] & 0x80:
        return _octal(field, what, at)
    value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    if field[0] & 0x40 or value >= 1 << 62:
        raise _bad_number(what, field, at)
    return value


def _octal(field: bytes, what: str, at: int) -> int:
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise _bad_number(what, digits, at)
    return int(digits or b"0", 8)


def _bad_number(what: str, value: bytes, at: int) -> DataError:
    return DataError(
        f"a {what} of {value!r} (byte {at:,})",
        allowed="whole numbers from 0 up",
        todo="fetch or write the archive anew",
    )


def _text(name: bytes, at: int) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"a name that is not UTF-8 ({name[:80]!r}, byte {at:,})",
            allowed="names in UTF-8",
            todo="write the archive anew, with other names",
        ) from error


def _checked(name: str, at: int) -> str:
    if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise DataError(
            f"a member named {name[:200]!r} (byte {at:,})",
            allowed="relative paths without '..'",
            todo="write the archive from inside its folder (tar -C FOLDER)",
        )
    return name


def _no_file(kind: bytes, name: str) -> DataError:
    what, todo = _REFUSED.get(kind, (f"a member of type {kind!r}", "leave it out of the archive"))
    return DataError(f"'{name[:200]}' is {what}", allowed="regular files and folders", todo=todo)


def _truncated(at: int, what: str) -> DataError:
    return DataError(
        f"it is truncated: at byte {at:,} there should be {what}",
        allowed="a whole archive",
        todo="fetch or write it anew",
    )
