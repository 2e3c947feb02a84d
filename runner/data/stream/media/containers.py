"""What a file of sound or video says of itself by its first bytes: its kind, and whether its end is there.

FFmpeg looks by itself, and takes playlists and scripts for media too. What is none of these kinds never gets to it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from runner.errors import DataError

#: Bytes of a file that are looked at for its kind.
_HEAD = 64
_ID3, _ID3_HEAD, _MOST_TAGS = b"ID3", 10, 16
#: Kinds that say how long they are, so that what ends before has lost its end.
MEASURED = frozenset({"wav", "flac", "mp4", "matroska", "aiff", "mp3 with a count"})
#: Kinds whose length is known from their last page, unless they are several behind each other.
PAGED = frozenset({"ogg"})
#: Kinds in which FFmpeg does not find a frame by its number.
UNSEEKABLE = frozenset({"ts"})
#: What is as large or larger is no size: RIFF that was written to a pipe does not know its own.
_UNKNOWN_SIZE = 0x7FFF_0000
_TS_PACKET, _TS_SYNC = 188, 0x47
#: Bytes of the first frame of an MP3 that are looked at for a count of all.
_FRAME = 256
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof", b"styp")
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"caff", "caf"),
    (b".snd", "au"),
    (b"#!AMR", "amr"),
    (b"wvpk", "wavpack"),
    (b"MAC ", "ape"),
    (b"TTA1", "tta"),
    (b"FLV\x01", "flv"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpeg"),
)
#: In words.
KINDS = "WAV, AIFF, FLAC, MP3, AAC, Ogg, MP4, MOV, Matroska, WebM, AVI, MPEG, FLV, ASF, AMR, CAF, GIF and a few more"


def kind_of(data: memoryview) -> str:
    """The kind of a file. Raises DataError for one that is none of `KINDS`."""
    if not data:
        raise damaged(0, "nothing")
    at = _behind_tags(data)
    found = _kind_at(data, at) or _kind_at(data, _behind_zeros(data, at))
    if not found:
        raise damaged(len(data), "of an unknown kind")
    return found


def _kind_at(data: memoryview, at: int) -> str:
    head = bytes(data[at : at + _HEAD])
    return next((kind for start, kind in _STARTS if head.startswith(start)), "") or _other(head, data, at)


def check_end(data: memoryview, kind: str) -> None:
    """Raises DataError where a file is shorter than its outermost parts say."""
    wanted = _WANTED.get(kind, lambda data: 0)(data)
    if wanted > len(data):
        raise damaged(len(data), f"the file says that it has {wanted:,} bytes")


def damaged(length: int, said: str) -> DataError:
    """The error for a file that cannot be decoded.

    Args:
        length: in bytes.
        said: by whoever could not.
    """
    return DataError(
        f"{length:,} bytes that are no whole sound or video ({said})",
        allowed=KINDS,
        todo="leave the row out with filter=, or repair it in a Prep",
    )


def _behind_tags(data: memoryview) -> int:
    """Where the content begins, behind the ID3 tags in front of it."""
    at = 0
    for _ in range(_MOST_TAGS):
        tag = bytes(data[at : at + _ID3_HEAD])
        if len(tag) < _ID3_HEAD or not tag.startswith(_ID3):
            break
        size = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        at += _ID3_HEAD + size + (_ID3_HEAD if tag[5] & 0x10 else 0)
    return at


def _behind_zeros(data: memoryview, at: int) -> int:
    """What fills a tag up, and stands before MP3s that were cut out of others."""
    while at < len(data) and not data[at]:
        at += 1
    return at


def _other(head: bytes, data: memoryview, at: int) -> str:
    """The kind of what does not begin with a fixed word; "" of what is none."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):  # RIFX is read wrongly by FFmpeg
        if head[8:12] == b"WAVE":
            return "wav" if head[:4] != b"RIFF" or _riff(data[at:]) else "wav without a length"
        return "avi" if head[8:12] == b"AVI " else ""
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] in _BOXES:
        return "mp4"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        layer = head[1] >> 1 & 3
        if layer == 0:
            return "adts"
        first = bytes(data[at : at + _FRAME])
        return "mp3 with a count" if b"Xing" in first or b"Info" in first else "mp3"
    packets = [data[place] for place in range(at, min(len(data), at + 4 * _TS_PACKET), _TS_PACKET)]
    return "ts" if len(packets) > 1 and set(packets) == {_TS_SYNC} else ""


def _riff(data: memoryview) -> int:
    """The bytes that a RIFF has by its own word; 0 where it does not know."""
    if bytes(data[:4]) != b"RIFF" or len(data) < _ID3_HEAD:
        return 0
    (size,) = struct.unpack_from("<I", data, 4)
    return 8 + size if 0 < size < _UNKNOWN_SIZE else 0


def _boxes(data: memoryview) -> int:
    """The end of the last box of an MP4, which may be beyond the file's."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        if size < 8 or not name.isascii():  # 0: up to the end; anything else is none, and FFmpeg's to judge
            return 0
        at += size
    return at


def _ebml(data: memoryview) -> int:
    """The end of the segment of a Matroska; 0 where it does not know."""
    at = 0
    for wanted in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if bytes(data[at : at + 4]) != wanted or at + 5 > len(data):
            return 0
        width = 9 - data[at + 4].bit_length()
        if width > 8 or at + 4 + width > len(data):
            return 0
        size = int.from_bytes(data[at + 4 : at + 4 + width], "big") & ((1 << 7 * width) - 1)
        if size == (1 << 7 * width) - 1:
            return 0
        at += 4 + width + size
    return at


_WANTED: dict[str, Callable[[Any], int]] = {"wav": _riff, "avi": _riff, "mp4": _boxes, "matroska": _ebml}
