"""A zip archive that says the same to every reader.

Two readers may see two archives in one file: one trusts the directory at the end, another the
headers before each member, a third finds another directory. What is checked here is what another
reader would have to see too. Format: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import SEEK_END, FileIO
from pathlib import Path
from typing import IO

from service.intake import limits
from service.intake.refusal import Refused

_LOCAL = struct.Struct("<4s5H3I2H")
"""Signature, version, flags, method, time, date, CRC, compressed and plain size, name and extra
length (4.3.7)."""
_END_BYTES = 22
_LONGEST_DESCRIPTOR = 24
"""Bytes after a member's data: signature, CRC and two sizes of 8 bytes (4.3.9)."""
_ENCRYPTED = 0x1 | 0x40 | 0x2000
"""Flags: encrypted, strongly, or with a masked header (4.4.4)."""
_SIZES_FOLLOW = 0x8
"""Flag: the header has zeros, CRC and sizes stand after the data (4.4.4)."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip whose directory is not too large. Raises BadZipFile."""
    with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
        yield archive


class _Bounded(FileIO):
    """zipfile reads a zip's whole directory at once, however large the file says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > limits.MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {size} bytes")
        return super().read(size)


def check_structure(archive: zipfile.ZipFile) -> None:
    """Raises Refused unless names, sizes and places are those of an honest archive."""
    members = archive.infolist()
    if not members:
        raise Refused("the archive is empty")
    if not _ends_itself(archive):
        raise Refused("something follows the archive, where another one could hide")
    for member in members:
        _check_name(member)
        _check_kind(member)
        _check_size(member)
    _check_no_doubles(members)
    inflated = sum(one.file_size for one in members if one.compress_type)
    if inflated > limits.MAX_INFLATED:
        raise Refused(f"its compressed members unpack to {inflated:,} bytes")
    _check_places(archive, members)


def _ends_itself(archive: zipfile.ZipFile) -> bool:
    """The last bytes of the file are the end of the directory, without a comment (4.3.16)."""
    assert archive.fp is not None
    archive.fp.seek(-_END_BYTES, SEEK_END)
    end = archive.fp.read(_END_BYTES)
    return end.startswith(b"PK\x05\x06") and end.endswith(b"\0\0")


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """The whole content. Raises Refused when it is longer than `most` bytes."""
    if member.file_size > most:
        raise Refused(f"{shown(member.filename)} has {member.file_size:,} bytes")
    return archive.read(member)


def shown(name: str) -> str:
    """A name from the file as an answer may hold it."""
    return ascii(name if len(name) <= 120 else name[:117] + "…")


def _check_name(member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    parts = name.removesuffix("/").split("/")
    if len(name) > limits.MAX_NAME:
        raise Refused(f"the name of a member has {len(name):,} characters")
    if not name.isprintable() or "\\" in name:
        raise Refused(f"{shown(name)} has characters that no member's name has")
    if any(part in ("", ".", "..") for part in parts) or ":" in parts[0]:
        raise Refused(f"{shown(name)} leads out of the archive")


def _check_kind(member: zipfile.ZipInfo) -> None:
    name, mode = shown(member.filename), member.external_attr >> 16
    # Attributes mean a file's mode only where Unix wrote them; elsewhere they are zeros.
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(f"{name} is a link or a device, not a file")
    if member.flag_bits & _ENCRYPTED:
        raise Refused(f"{name} is encrypted")
    if member.compress_type not in _METHODS:
        raise Refused(f"{name} is compressed in a way that torch does not read")
    if member.volume != 0:
        raise Refused(f"{name} is on another disk")


def _check_size(member: zipfile.ZipInfo) -> None:
    name, plain, packed = shown(member.filename), member.file_size, member.compress_size
    if member.compress_type == zipfile.ZIP_STORED and plain != packed:
        raise Refused(f"{name} has two sizes, {packed:,} and {plain:,} bytes")
    if plain > limits.RATIO_MATTERS_FROM and plain > limits.MAX_RATIO * packed:
        raise Refused(f"{name} unpacks {packed:,} bytes to {plain:,}")


def _check_no_doubles(members: Sequence[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        # torch's own reader does not tell A from a when it looks for a member.
        name = member.filename.lower()
        if name in seen:
            raise Refused(f"{shown(member.filename)} is there twice")
        seen.add(name)


def _check_places(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> None:
    """Every byte before the directory belongs to one member."""
    assert archive.fp is not None
    end, slack, last = 0, 0, ""
    for member in sorted(members, key=lambda one: one.header_offset):
        if not end <= member.header_offset <= end + slack:
            raise Refused(
                f"{shown(member.filename)} does not begin where {shown(last)} ends"
                if last
                else "the file does not begin with the archive's first member"
            )
        end = _data_start(archive.fp, member) + member.compress_size
        slack = _LONGEST_DESCRIPTOR if member.flag_bits & _SIZES_FOLLOW else 0
        last = member.filename
    if not end <= archive.start_dir <= end + slack:
        raise Refused(f"the directory does not begin where {shown(last)} ends")


def _data_start(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where the data begins, after a local header that agrees with the directory."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size:
        raise Refused(f"{shown(member.filename)} lies behind the file's end")
    signature, _, flags, method, _, _, crc, packed, plain, name_length, extra_length = (
        _LOCAL.unpack(header)
    )
    encoding = "utf-8" if member.flag_bits & 0x800 else "cp437"
    name = file.read(name_length)
    agreed = (
        signature == b"PK\x03\x04"
        and (flags, method) == (member.flag_bits, member.compress_type)
        and name == member.orig_filename.encode(encoding, "replace")
        and (_follow(flags, packed, plain) or _agree(member, crc, packed, plain))
    )
    if not agreed:
        raise Refused(f"{shown(member.filename)} is described in two ways")
    return int(member.header_offset + _LOCAL.size + name_length + extra_length)


def _follow(flags: int, packed: int, plain: int) -> bool:
    """CRC and sizes stand after the data; torch writes the CRC here all the same."""
    return bool(flags & _SIZES_FOLLOW) and (packed, plain) == (0, 0)


def _agree(member: zipfile.ZipInfo, crc: int, packed: int, plain: int) -> bool:
    """The header has the directory's values; 2³²−1 where they need 8 bytes (4.4.8)."""
    long = 0xFFFFFFFF
    return (
        crc == member.CRC
        and packed in (member.compress_size, long)
        and plain in (member.file_size, long)
    )
