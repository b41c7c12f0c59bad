"""A fuzzer's bytes as decisions, and what several targets make of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_MOST_EDITS = 16


class Given:
    """Bytes taken from the front; where there are none left, zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether any are left."""
        return self._at < len(self._data)

    def number(self, size: int = 1) -> int:
        """A number of ``size`` bytes, little endian."""
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def some(self) -> bytes:
        """As many of the next bytes as the first of them says."""
        return self.take(self.number())

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """``data`` in pieces of ``size`` bytes."""
    return (data[start : start + size] for start in range(0, len(data), size))


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns or raises, which waits for nothing: no event loop is needed, which would take most time."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # typeshed does not know what it ends with
    work.close()
    raise AssertionError("it waits")


def edited(valid: bytes, given: Given) -> bytes:
    """``valid``, damaged as ``given`` says: so that inputs stay right where what is valid changes.

    An edit is a byte that says which one, three bytes that say where, and, for some, what and how much.
    """
    data = bytearray(valid)
    for _ in range(_MOST_EDITS):
        if not given:
            break
        kind, place = given.number() % 4, given.number(3) % (len(data) + 1)
        if kind == 0:
            some = given.some()
            data[place : place + len(some)] = some
        elif kind == 1:
            data[place:place] = given.some()
        elif kind == 2:
            del data[place : place + given.number(2)]
        else:
            filling, size = given.take(1) or b"\0", min(given.number(2), len(data) - place)
            data[place : place + size] = filling * size
    return bytes(data)


def outcome(work: Callable[[], T], *documented: type[BaseException]) -> T | type[BaseException]:
    """What ``work`` returns, or the type of what it raises, if that is one of ``documented``."""
    try:
        return work()
    except documented as error:
        assert_short(str(error))
        return type(error)


def assert_short(message: str) -> None:
    """A message says something, and is not an archive's whole answer."""
    assert message.strip()
    assert len(message) < 4_000, f"{len(message)} characters"
