"""The ASGI application: from a request to a reply, past everything the knobs put in its way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request

from tests.twin import bucket, qido, rendered, wado
from tests.twin.delivery import Connection, Delivery, Receive, Send, client_gone, hang_up
from tests.twin.knobs import Knobs, knobs_json
from tests.twin.model import Holdings
from tests.twin.reply import Reply, bytes_reply, compressed, cut, error_reply, html_reply, json_reply, mislabelled
from tests.twin.state import State

ROOT = "/dicomWeb"
CONTROL = "/_twin/"

_GOOGLE = re.compile(r"/v1/projects/[^/]+/locations/[^/]+/datasets/[^/]+/dicomStores/[^/]+(?=/dicomWeb)")
"""What Google's Cloud Healthcare API has before the DICOMweb root; the twin has one store under all names."""

_STUDY = r"/studies/(?P<study>[^/]+)"
_SERIES = _STUDY + r"/series/(?P<series>[^/]+)"
_INSTANCE = _SERIES + r"/instances/(?P<instance>[^/:]+)"
_ROUTES = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("qido_studies", ROOT + "/studies"),
        ("qido_series", f"{ROOT}(?:{_STUDY})?/series"),
        ("qido_instances", f"{ROOT}(?:{_STUDY}(?:/series/(?P<series>[^/]+))?)?/instances"),
        ("metadata", f"{ROOT}(?:{_INSTANCE}|{_SERIES.replace('<', '<s_')}|{_STUDY.replace('<', '<t_')})/metadata"),
        ("frames", f"{ROOT}{_INSTANCE}/frames/(?P<frames>[0-9]+(?:,[0-9]+)*)"),
        ("rendered", f"{ROOT}{_INSTANCE}(?:/frames/(?P<frame>[0-9]+))?/rendered"),
        ("storage_info", f"{ROOT}{_INSTANCE}:getStorageInfo"),
        ("wado_instance", ROOT + _INSTANCE),
        ("wado_series", ROOT + _SERIES),
        ("wado_study", ROOT + _STUDY),
        ("bucket_list", r"/bucket/(?P<bucket>[^/]+)/?"),
        ("bucket_object", r"/bucket/(?P<bucket>[^/]+)/(?P<key>.+)"),
        ("quota_usage", r"(?:.*)/quota_usage"),
    )
)


class TwinApp:
    """Answers for what ``scan`` finds; ``connections`` finds the connection of a client by its address."""

    def __init__(self, scan: Callable[[], Holdings], state: State, connections: Callable[[Any], Connection]) -> None:
        self._scan = scan
        self._holdings = scan()
        self._state = state
        self._connections = connections

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        connection = self._connections(scope["client"])
        if request.url.path.startswith(CONTROL):
            reply = await self._control(request)
            await Delivery(reply, Knobs(), State(), connection).run(receive, send, head_only=False)
            return
        kind, path = route(request.url.path)
        record = _record(kind, request)
        self._state.request_begins(connection, record)
        try:
            await self._serve(request, record, path, connection, receive, send)
        finally:
            self._state.request_ends()

    async def _serve(
        self,
        request: Request,
        record: dict[str, Any],
        path: dict[str, str],
        connection: Connection,
        receive: Receive,
        send: Send,
    ) -> None:
        knobs = self._state.knobs.for_target(f"{request.url.path}?{request.url.query}")
        special = knobs is self._state.knobs
        if special and (self._state.refuse_left > 0 or knobs.refuse_always):
            self._state.refuse_left = max(0, self._state.refuse_left - 1)
            record["status"] = 0
            await hang_up(connection, receive, knobs.refuse_always == "reset")
            return
        if knobs.latency_seconds and await client_gone(receive, knobs.latency_seconds):
            self._state.aborted += 1
            return
        reply = self._gate(request, knobs, special)
        if reply is None:
            reply = treated(self._answer(record["kind"], path, request, knobs), request, knobs)
            reply = self._within_quota(reply, knobs)
        record["status"] = reply.status
        self._state.statuses[str(reply.status)] += 1
        await Delivery(reply, knobs, self._state, connection).run(receive, send, request.method == "HEAD")

    def _gate(self, request: Request, knobs: Knobs, special: bool) -> Reply | None:
        """A refusal that has nothing to do with what was asked for."""
        headers = {"Retry-After": knobs.retry_after} if knobs.retry_after else {}
        status = self._state.fail_left.popleft() if special and self._state.fail_left else knobs.fail_always
        if status:
            return error_reply(status, knobs.fail_body, headers)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if knobs.bearer_tokens and token not in knobs.bearer_tokens:
            return error_reply(401, knobs.fail_body, {"WWW-Authenticate": "Bearer"})
        if knobs.quota_bytes is not None and self._state.quota_used >= knobs.quota_bytes:
            return html_reply(429, "Quota exceeded. Come back after 00:00 UTC", headers)
        if knobs.redirect and (knobs.redirect_again or "_redirected" not in request.query_params):
            return Reply(knobs.redirect, headers={"Location": _elsewhere(request, knobs)})
        if request.method not in ("GET", "HEAD"):
            return error_reply(405)
        if request.method == "HEAD" and not knobs.head:
            return Reply(404)
        return None

    def _answer(self, kind: str, path: dict[str, str], request: Request, knobs: Knobs) -> Reply:
        if kind.startswith("qido_"):
            return qido.answer(self._holdings, kind.removeprefix("qido_"), path, request.query_params, knobs)
        asked = wado.Asked(request.headers.get("accept", ""), request.headers.get("range", ""))
        base_url = f"{request.url.scheme}://{request.url.netloc}{ROOT}"
        answers: dict[str, Callable[[], Reply]] = {
            "metadata": partial(wado.metadata, self._holdings, path, base_url, knobs),
            "frames": partial(wado.frames, self._holdings, path, asked, knobs),
            "rendered": partial(rendered.rendered, self._holdings, path, asked.accept, knobs),
            "storage_info": partial(wado.storage_info, self._holdings, path, knobs),
            "bucket_list": partial(self._bucket_list, path, request, knobs),
            "bucket_object": partial(self._bucket_object, path, asked, knobs),
            "quota_usage": partial(self._quota_usage, request, knobs),
        }
        if kind.startswith("wado_"):
            return wado.retrieve(self._holdings, path, asked, knobs)
        return answers[kind]() if kind in answers else error_reply(404)

    def _within_quota(self, reply: Reply, knobs: Knobs) -> Reply:
        """The reply, which ends where the quota does."""
        if knobs.quota_bytes is None or not knobs.quota_cuts:
            return reply
        left = knobs.quota_bytes - self._state.quota_used
        return reply if reply.length <= left else replace(reply, close_after=left)

    def _bucket_list(self, path: dict[str, str], request: Request, knobs: Knobs) -> Reply:
        return bucket.listing(self._holdings, path["bucket"], request.query_params, knobs)

    def _bucket_object(self, path: dict[str, str], asked: wado.Asked, knobs: Knobs) -> Reply:
        return bucket.stored_object(self._holdings, path["bucket"], path["key"], asked.byte_range, knobs)

    def _quota_usage(self, request: Request, knobs: Knobs) -> Reply:
        used = self._state.quota_used
        return json_reply(
            {
                "ip": request.client.host if request.client else "",
                "bytes_used": used,
                "fraction_used": used / knobs.quota_bytes if knobs.quota_bytes else 0.0,
                "date": datetime.now(UTC).date().isoformat(),
            }
        )

    async def _control(self, request: Request) -> Reply:
        """``/_twin/knobs``: GET, PUT (some knobs, as JSON), DELETE; ``/_twin/counters``: GET, DELETE.

        ``/_twin/connections``: DELETE, which ends them all, mid-answer; this one does not count.
        ``/_twin/holdings``: PUT, which looks anew what there is; answers under way go on as they began.
        """
        name = request.url.path.removeprefix(CONTROL)
        if name == "knobs":
            if request.method == "PUT":
                try:
                    self._state.set_knobs(json.loads(await request.body()))
                except (ValueError, TypeError) as error:
                    return json_reply({"error": str(error)}, 400)
            elif request.method == "DELETE":
                self._state.reset_knobs()
            return bytes_reply(200, knobs_json(self._state.knobs), "application/json")
        if name == "counters":
            if request.method == "DELETE":
                self._state.reset_counters()
            return json_reply(self._state.counters())
        if name == "holdings" and request.method == "PUT":
            self._holdings = self._scan()
            return json_reply({})
        if name == "connections" and request.method == "DELETE":
            for connection in self._state.connections:
                connection.transport.abort()
            return json_reply({})
        return error_reply(404)


def route(path: str) -> tuple[str, dict[str, str]]:
    """The kind of a request and the parts of its path; ``other`` for what the twin does not know."""
    for kind, pattern in _ROUTES:
        if match := pattern.fullmatch(_GOOGLE.sub("", path)):
            parts = match.groupdict()
            return kind, {name.removeprefix("s_").removeprefix("t_"): text for name, text in parts.items() if text}
    return "other", {}


def treated(reply: Reply, request: Request, knobs: Knobs) -> Reply:
    """The reply after compression, the platform's cap and truncation."""
    asked = "gzip" in request.headers.get("accept-encoding", "")
    if reply.length and reply.status != 206 and (knobs.gzip == "always" or (knobs.gzip == "asked" and asked)):
        reply = compressed(reply)
    cap = knobs.max_response_bytes
    if cap is not None and reply.length > cap:
        if knobs.max_response_action == "500":
            return Reply(500)
        reply = replace(reply, close_after=cap)
    if knobs.truncate_after_bytes is not None and (reply.is_dicom or re.search("json|xml", reply.media_type)):
        reply = cut(reply, knobs.truncate_after_bytes, knobs.truncate_ending)
    if knobs.truncate_tenths and reply.number % 10:
        reply = cut(reply, reply.length * (reply.number % 10) // 10, knobs.truncate_ending)
    if knobs.length_error and reply.is_dicom:
        reply = mislabelled(reply, knobs.length_error)
    return reply


def _elsewhere(request: Request, knobs: Knobs) -> str:
    """Where a redirect leads."""
    url = str(request.url.include_query_params(_redirected=1))
    here = f"{request.url.scheme}://{request.url.netloc}"
    return knobs.redirect_to + url.removeprefix(here) if knobs.redirect_to else url


def _record(kind: str, request: Request) -> dict[str, Any]:
    names = ("accept", "accept-encoding", "range", "authorization", "x-goog-user-project", "user-agent")
    headers = {name.replace("-", "_"): request.headers.get(name, "") for name in names}
    return {"kind": kind, "method": request.method, "path": request.url.path, "query": request.url.query} | headers
