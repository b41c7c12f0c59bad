"""The answer to a request: its status, its headers, and its body as it comes."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple, cast

import httpx
import trio

from ..deadline import Progress
from ..errors import IdcfsError, Refused, Truncated
from ..printable import quoted
from ..settings import KIB, MIB
from ..stats import Stats
from . import faults
from .faults import Transient

MAX_ERROR_BYTES = 16 * KIB
ERROR_BODY_SECONDS = 5.0
"""How much, and how long, is read of an answer that only explains an error."""
LARGE_BYTES = 4 * MIB
"""From here on, documents that could fill the memory together come one after the other."""


class Answer:
    """A response whose body is still to come: an async iterator over its bytes, decompressed if need be.

    Not a generator: one that is left half-way has to be waited for, and who stops a download does not wait.

    :raises Truncated: where the body ends before its own framing says so.
    :raises DeadlinePassed: where nothing comes for the timeout.
    :raises Refused: for a compression that was not asked for.
    """

    def __init__(self, response: httpx.Response, where: str, stats: Stats, counter: str) -> None:
        """
        :param counter: of ``stats``, for the bytes of the body as they come.
        """
        self.status = response.status_code
        self.headers = response.headers
        self.where = where
        self.login: str = response.request.headers.get("authorization", "")
        """What was sent, which nobody else may see."""
        self._response = response
        self._raw = raw_body(response)
        self._stats = stats
        self._counter = counter
        self._encoding = response.headers.get("content-encoding", "identity").strip().lower()
        self.compressed = self._encoding not in ("", "identity")
        """Whether Content-Length counts something else than the bytes that are iterated over."""
        self._inflater: _Inflater | None = None
        self._first: bytes | Truncated | None = None  # what has come of it before anybody read

    async def begin(self) -> None:
        """Return when the first bytes of the body are there, or there are none; what breaks off is told who reads.

        :raises DeadlinePassed: where nothing comes: headers alone are no answer.
        """
        try:
            self._first = await self._receive()
        except Truncated as error:
            self._first = error
        except StopAsyncIteration:
            pass  # as it will be said again

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self.compressed or self.status != 200:
            return await self._receive()
        if self._inflater is None:
            self._inflater = _Inflater(self._encoding, self.where)
        while not (data := self._inflater.take()):
            try:
                self._inflater.give(await self._receive())
            except StopAsyncIteration:
                self._inflater.finish()
                raise
        return data

    async def _receive(self) -> bytes:
        first, self._first = self._first, None
        if isinstance(first, Truncated):
            raise first
        if first is not None:
            return first
        try:
            data = await anext(self._raw)
        except httpx.HTTPError as error:
            raise faults.of_body(error, self.where) from error
        self._stats.count(self._counter, len(data))
        return data

    async def aclose(self) -> None:
        """Keep the connection if the body is at its end, else close it; waits for nothing."""
        await drop(self._response, self._raw)


class _Inflater:
    """gzip, a bounded piece at a time, so that zeros packed a thousandfold do not fill the memory.

    One member after the other (RFC 1952, section 2.2): what follows a member is the next one, or an error.
    """

    def __init__(self, encoding: str, where: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise Refused(f"{where} sent its answer in the encoding '{quoted(encoding)}', which was not asked for")
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._packed = b""
        self._where = where

    def give(self, data: bytes) -> None:
        self._packed += data

    def take(self) -> bytes:
        """The next piece, up to 1 MiB; empty: more input is needed."""
        data = self._inflate()
        while not data and self._packed:  # a member without content
            data = self._inflate()
        return data

    def _inflate(self) -> bytes:
        if self._stream.eof and self._packed:
            self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            data = b"" if self._stream.eof else self._stream.decompress(self._packed, MIB)
        except zlib.error as error:
            raise Truncated(f"{self._where} sent a body that cannot be decompressed: {error}") from error
        # The rest is in one of the two. At a member's end it is taken out here: a stream adds to what it did not use.
        self._packed = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return data

    def finish(self) -> None:
        if not self._stream.eof:
            raise Truncated(f"{self._where} sent a compressed body that ends early")


class Document(NamedTuple):
    """A whole answer."""

    content_type: str
    """As it came."""
    body: bytes


async def read_whole(
    answer: Answer, progress: Progress, most: int, large: trio.Lock | None, alone: AsyncExitStack
) -> bytes:
    """The whole body. Nothing of it has been handed out yet, so one that breaks off is worth another try.

    :param large: held by the one body that may have more than ``LARGE_BYTES``, until ``alone`` is left.
    :raises Refused: for more than ``most`` bytes: at full speed, a body without end makes progress for ever.
    """
    body = bytearray()
    try:
        async for chunk in answer:
            progress.advance(len(chunk))
            if large is not None and len(body) <= LARGE_BYTES < len(body) + len(chunk):
                await alone.enter_async_context(large)
                progress.restart()
            body += chunk
            if len(body) > most:
                raise Refused(f"{answer.where} sent more than {most:,} bytes in one answer")
    except Truncated as error:
        raise Transient(error) from error
    return bytes(body)


async def read_some(answer: Answer) -> bytes:
    """As much of an error's explanation as comes soon; whatever is wrong with it, the status matters more."""
    body = b""
    with trio.move_on_after(ERROR_BODY_SECONDS), suppress(IdcfsError):
        async for chunk in answer:
            body += chunk
            if len(body) >= MAX_ERROR_BYTES:
                break
    return body[:MAX_ERROR_BYTES]


def raw_body(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes. Not aiter_raw(): one generator fewer, and answers that were made in memory work too."""
    return aiter(cast("httpx.AsyncByteStream", response.stream))


async def drop(response: httpx.Response, raw: AsyncIterator[bytes]) -> None:
    """Close ``response``, of which ``raw`` is the body, wherever that is; waits for nothing.

    httpx leaves the generators it is made of to the garbage collector when a body is dropped half-way, and trio
    complains of each. Read on under a cancelled scope, they unwind in order at the first wait for the network.
    """
    with trio.CancelScope(shield=True) as scope, suppress(httpx.HTTPError):
        scope.cancel()
        async for _ in raw:
            pass
    with trio.CancelScope(shield=True), suppress(httpx.HTTPError):
        await response.aclose()
