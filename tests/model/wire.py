"""The twin without a network: an httpx transport that asks its application, and fails as connections do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import httpx
import trio
from starlette.requests import Request

from tests.model.reference import Reference
from tests.model.stored import BUCKET, SOP_CLASS, SeriesPlan
from tests.twin.app import TwinApp, route, treated
from tests.twin.directory import DirectoryHoldings, crdc_uuid
from tests.twin.knobs import Knobs
from tests.twin.model import EXPLICIT_LITTLE, Instance, Series
from tests.twin.reply import Reply
from tests.twin.state import State


class MemorySource:
    """An instance's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def chunks(self, start: int, stop: int, chunk_bytes: int) -> Iterator[bytes]:
        return (self._data[at : min(at + chunk_bytes, stop)] for at in range(start, stop, chunk_bytes))


class MemoryHoldings(DirectoryHoldings):
    """What a reference says that the archive has."""

    def __init__(self, reference: Reference) -> None:
        found: dict[SeriesPlan, list[tuple[str, bytes]]] = {}
        for plan, uid, data in reference.contents():
            found.setdefault(plan, []).append((uid, data))
        made = {_series(plan, files): files for plan, files in found.items()}
        self._series = list(made)
        self._instances = {series: _instances(series, files) for series, files in made.items()}


def _series(plan: SeriesPlan, files: list[tuple[str, bytes]]) -> Series:
    return Series(
        patient_id=plan.patient,
        study_uid=plan.study,
        series_uid=plan.uid,
        modality="OT",
        sop_class_uid=SOP_CLASS,
        transfer_syntaxes=(EXPLICIT_LITTLE,),
        instance_count=len(files),
        size_bytes=sum(len(data) for _, data in files),
        aws_bucket=BUCKET,
        crdc_series_uuid=crdc_uuid(plan.uid),
    )


def _instances(series: Series, files: list[tuple[str, bytes]]) -> list[Instance]:
    return [
        Instance(
            series=series,
            ordinal=ordinal,
            instance_uid=uid,
            sop_class_uid=SOP_CLASS,
            transfer_syntax=EXPLICIT_LITTLE,
            size_bytes=len(data),
            number=ordinal + 1,
            rows=0,
            columns=0,
            crdc_instance_uuid=crdc_uuid(uid),
            source=MemorySource(data),
        )
        for ordinal, (uid, data) in enumerate(files)
    ]


class Wire(httpx.AsyncBaseTransport):
    """Brings requests to a twin that is in this process."""

    def __init__(self, holdings: MemoryHoldings, knobs: Knobs) -> None:
        self.state = State(knobs)
        self.refused: str | None = None
        """No connection can be made for paths that have this in them."""
        self.hold(holdings)

    def hold(self, holdings: MemoryHoldings) -> None:
        """Serve these from now on."""
        self._app = TwinApp(lambda: holdings, self.state, lambda _: self._no_connection())

    @staticmethod
    def _no_connection() -> Any:
        raise AssertionError("there is none")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        url = request.url
        if self.refused is not None and self.refused in url.path:
            raise httpx.ConnectError("connection refused")
        asked = Request(
            {
                "type": "http",
                "method": request.method,
                "path": url.path,
                "raw_path": url.raw_path,
                "query_string": url.query,
                "headers": [(name.lower(), value) for name, value in request.headers.raw],
                "scheme": url.scheme,
                "server": (url.host, url.port),
                "client": None,
            }
        )
        knobs = self.state.knobs.for_target(f"{url.path}?{url.query.decode()}")
        if knobs is self.state.knobs and knobs.refuse_always:
            raise httpx.ReadError("connection reset by peer")
        reply = self._reply(asked, knobs)
        headers = dict(reply.headers)
        if reply.media_type:
            headers["Content-Type"] = reply.media_type
        if reply.framing == "length" and reply.status != 204:
            headers["Content-Length"] = str(reply.length)
        if reply.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        return httpx.Response(reply.status, headers=headers, stream=_Body(reply, knobs, request))

    def _reply(self, asked: Request, knobs: Knobs) -> Reply:
        reply = self._app._gate(asked, knobs, knobs is self.state.knobs)
        if reply is not None:
            return reply
        kind, path = route(asked.url.path)
        return treated(self._app._answer(kind, path, asked, knobs), asked, knobs)


class _Body(httpx.AsyncByteStream):
    """The body of a reply, as the knobs have it."""

    def __init__(self, reply: Reply, knobs: Knobs, request: httpx.Request) -> None:
        self._reply = reply
        self._knobs = knobs
        self._seconds: float = request.extensions["timeout"]["read"]
        self._chunks = reply.chunks(knobs.chunk_bytes)
        self._rest = b""
        self._sent = 0
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise httpx.StreamClosed
        marks = [mark for mark in (self._reply.close_after, self._knobs.stall_after_bytes) if mark is not None]
        if marks and self._sent >= min(marks):
            await self._break_off()
        self._rest = self._rest or next(self._chunks, b"")
        if not self._rest:
            raise StopAsyncIteration
        room = min(marks) - self._sent if marks else len(self._rest)
        piece, self._rest = self._rest[:room], self._rest[room:]
        self._sent += len(piece)
        return piece

    async def _break_off(self) -> None:
        if self._sent != self._reply.close_after:
            await trio.sleep(self._seconds)
            raise httpx.ReadTimeout("nothing came")
        if self._reply.reset:
            raise httpx.ReadError("connection reset by peer")
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    async def aclose(self) -> None:
        self._closed = True
