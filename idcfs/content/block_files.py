"""Block files: one block each. A file says which block it holds and proves that it is as it was written.

The header and the data are covered by one digest, so a file that lies under the wrong name, is cut, extended or has any
bit flipped is told apart. The digest finds accidents, not forgers: the directory is the user's own.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import xxhash

from ..errors import Damaged
from ..settings import BLOCK_BYTES, KIB
from .blocks import Key

_MAGIC = b"idcfs\0\0\1"  # the last byte is the format's version
_FIELDS = struct.Struct("<8s16sQQ")  # magic, name, number of the block, bytes of data
_DIGEST_BYTES = 16
HEADER_BYTES = _FIELDS.size + _DIGEST_BYTES

_ALLOCATED_BYTES = 4 * KIB
"""What filesystems give files room in."""


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A block to be kept."""

    key: Key
    number: int
    data: bytes
    name: bytes
    digest: bytes

    @classmethod
    def of(cls, key: Key, number: int, data: bytes) -> NewBlock:
        """Block ``number`` of the instance ``key``."""
        name = name_of(key, number)
        return cls(key, number, data, name, _digest(_fields(name, number, len(data)), data))

    @property
    def disk_bytes(self) -> int:
        """What its file takes on disk."""
        return _rounded(HEADER_BYTES + len(self.data))


def disk_bytes(size: int) -> int:
    """What all blocks of an instance of ``size`` bytes take on disk."""
    whole, rest = divmod(size, BLOCK_BYTES)
    return whole * _rounded(HEADER_BYTES + BLOCK_BYTES) + (_rounded(HEADER_BYTES + rest) if rest else 0)


def _rounded(size: int) -> int:
    return -(-size // _ALLOCATED_BYTES) * _ALLOCATED_BYTES


def encoded(key: Key) -> tuple[bytes, bytes]:
    """``key`` as bytes, whatever an archive has put into it."""
    content, instance_uid = key
    return content.encode("utf-8", "surrogatepass"), instance_uid.encode("utf-8", "surrogatepass")


def decoded(content: bytes, instance_uid: bytes) -> Key:
    """The key that was ``encoded``."""
    return content.decode("utf-8", "surrogatepass"), instance_uid.decode("utf-8", "surrogatepass")


def name_of(key: Key, number: int) -> bytes:
    """Names a block, in 16 bytes. No archive can make two blocks share one, so the hash is a cryptographic one."""
    content, instance_uid = encoded(key)
    return blake2b(struct.pack("<QQ", number, len(content)) + content + instance_uid, digest_size=16).digest()


def write(path: Path, block: NewBlock) -> None:
    """Write ``block`` to the new file ``path``, which may be there in part after an error.

    :raises OSError: if that cannot be done.
    """
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        for part in (_fields(block.name, block.number, len(block.data)) + block.digest, block.data):
            left = memoryview(part)
            while left:
                left = left[os.write(file, left) :]
    finally:
        os.close(file)


def read(path: Path, name: bytes, number: int) -> tuple[bytes, bytes]:
    """Data and digest of the block that should lie at ``path``. Data is read into its own memory, never copied.

    :raises Damaged: if anything of the file is not as it was written.
    :raises OSError: if the file cannot be opened.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # a FIFO must not hold us
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Damaged(f"{path} is a symbolic link") from error
        raise
    try:
        return _read(file, path, name, number)
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(file)


def _read(file: int, path: Path, name: bytes, number: int) -> tuple[bytes, bytes]:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise Damaged(f"{path} is not a file")
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)  # all of it in one go, not in steps of the read-ahead
    length = status.st_size - HEADER_BYTES
    header = os.pread(file, HEADER_BYTES, 0)
    fields = _fields(name, number, max(0, length))
    if length < 0 or not header.startswith(fields):
        raise Damaged(f"{path} is not the block that was written there")
    data = os.pread(file, length, HEADER_BYTES)
    digest = header[len(fields) :]
    if _digest(fields, data) != digest:
        raise Damaged(f"{path} has other bytes than were written")
    return data, digest


def _fields(name: bytes, number: int, length: int) -> bytes:
    return _FIELDS.pack(_MAGIC, name, number, length)


def _digest(fields: bytes, data: bytes) -> bytes:
    hasher = xxhash.xxh3_128(fields)
    hasher.update(data)
    return hasher.digest()
