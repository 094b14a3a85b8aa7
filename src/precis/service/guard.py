"""What stands before the application: nothing reaches it that is too large, too slow or not meant for it.

Every answer passes here as well, and gets its request id, so that no client and no log is without.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from precis.service.limits import Limits
from precis.service.metrics import Metrics
from precis.service.models import ServedModel
from precis.service.refusal import RefusedError

log = logging.getLogger(__name__)
REQUEST_ID = "X-Request-ID"
MODEL_VERSION = "X-Model-Version"
DOCS_FILES = "/docs-files"
_OPEN_PATHS = frozenset({"/health", "/docs", "/openapi.json"})  # asked by those who cannot send a token
_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_COUNTED = frozenset({"/summarize", "/health", "/metrics", "/docs", "/openapi.json"})
# a client that still sends would lose an answer if the connection closed at once
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 64 * 1024 * 1024


class _ClientGoneError(Exception):
    """Nobody is there to answer."""


class Guard:
    """ASGI middleware: limits, host, token, request id.

    Args:
        app: what it stands before.
        models: the first of them tells the version that answers without one carry.
        limits: see there.
        hosts: values of the Host header that are answered, without port.
        token: what `Authorization: Bearer` must carry; None: nothing.
        metrics: what is counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        models: Mapping[str, ServedModel],
        limits: Limits,
        hosts: Collection[str],
        token: str | None,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._models = models
        self._limits = limits
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = token.encode() if token is not None else None
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _USABLE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {}).update(
            request_id=request_id, deadline=started + self._limits.deadline_seconds
        )
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._mark(MutableHeaders(scope=message), request_id)
            await send(message)

        path = scope["path"] if scope["path"] in _COUNTED else "other"
        self._metrics.in_flight.inc()
        body_read = False
        try:
            self._check_headers(scope, headers)
            body = await self._read_body(receive)
            body_read = True
            await self._app(scope, _replay(body, receive), send_marked)
        except _ClientGoneError:
            status = 499  # as web servers log it; nobody reads it
        except RefusedError as refusal:
            await self._refuse(refusal, request_id, send_marked, None if body_read else receive)
        except Exception:
            log.exception("request %s failed", request_id)
            if status:
                raise  # half an answer is out: the server can only close the connection
            message = f"the service failed; its log has the reason under request id {request_id}"
            await self._refuse(RefusedError(500, message), request_id, send_marked, None)
        finally:
            seconds = time.monotonic() - started
            self._metrics.in_flight.dec()
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.request_seconds.labels(path).observe(seconds)
            level = logging.INFO if path in ("/summarize", "other") else logging.DEBUG
            log.log(level, "%s %s %s %d %.0f ms", request_id, scope["method"], path, status, 1000 * seconds)

    def _check_headers(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        # without the port; an IPv6 address keeps its brackets
        name = re.sub(r":\d*$", "", host).lower()
        if name not in self._hosts:
            raise RefusedError(
                400, "this Host is not served here: start precis serve with --allow-host for it"
            )
        path = scope["path"]
        is_open = path in _OPEN_PATHS or path.startswith(DOCS_FILES + "/")
        if self._token is not None and not is_open:
            scheme, _, credentials = headers.get("authorization", "").partition(" ")
            given = credentials.strip().encode("latin-1")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._token):
                raise RefusedError(
                    401, "expected the header Authorization: Bearer TOKEN, with the token of this service"
                )
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RefusedError(415, "compressed bodies are not read: send it without Content-Encoding")
        if scope["method"] in ("POST", "PUT", "PATCH"):
            _check_content_type(headers.get("content-type", ""))
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > self._limits.body_bytes:
            raise self._too_large()

    async def _read_body(self, receive: Receive) -> bytes:
        """The body, counted as it comes: what a header announces is not believed."""
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientGoneError
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > self._limits.body_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError as error:
            raise RefusedError(
                408, f"the body was not complete after {self._limits.body_seconds:g} s"
            ) from error

    def _too_large(self) -> RefusedError:
        return RefusedError(
            413, f"the body is larger than {self._limits.body_bytes:,} bytes: send several requests"
        )

    def _mark(self, headers: MutableHeaders, request_id: str) -> None:
        headers[REQUEST_ID] = request_id
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Cache-Control", "no-store")
        headers.setdefault(MODEL_VERSION, version_of(self._models) or "none")

    async def _refuse(
        self, refusal: RefusedError, request_id: str, send: Send, unread: Receive | None
    ) -> None:
        body = json.dumps(error_body(refusal, request_id, self._models)).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
        if unread is not None:
            headers["Connection"] = "close"
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": unread is not None})
        if unread is not None:
            await _discard(unread)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def error_body(refusal: RefusedError, request_id: str, models: Mapping[str, ServedModel]) -> dict[str, Any]:
    """The JSON of every answer that is no success."""
    return {
        "error": refusal.message,
        "status": refusal.status,
        "request_id": request_id,
        "model_version": version_of(models),
    }


def version_of(models: Mapping[str, ServedModel]) -> str | None:
    """The version that answers to the first name."""
    loaded = next(iter(models.values())).loaded
    return loaded.version if loaded is not None else None


def _check_content_type(value: str) -> None:
    kind, _, parameters = value.partition(";")
    charset = re.fullmatch(r'\s*charset\s*=\s*"?([\w-]+)"?\s*', parameters)
    if kind.strip().lower() != "application/json" or (
        parameters.strip() and (charset is None or charset[1].lower() not in ("utf-8", "utf8"))
    ):
        raise RefusedError(415, "expected Content-Type: application/json, in UTF-8")


def _replay(body: bytes, receive: Receive) -> Receive:
    """What was read already, then whatever comes."""
    is_given = False

    async def replayed() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _discard(receive: Receive) -> None:
    """Read on for a while, into nothing."""
    size = 0
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while size < _LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
