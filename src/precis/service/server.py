"""The server around the application: sockets, patience and signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from precis.errors import PrecisError

log = logging.getLogger(__name__)
_HEADER_BYTES = 16 * 1024
_BACKLOG = 128
_KEEP_ALIVE_SECONDS = 10
_GRACE_SECONDS = 30


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections.

    Raises:
        PrecisError: the address is taken, or not one of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        raise PrecisError(
            f"cannot listen on {host}, port {port}: {error}. --host and --port name others"
        ) from error


def serve(
    app: FastAPI,
    listener: socket.socket,
    *,
    header_seconds: float,
    connections: int,
    when_ready: Callable[[], None],
) -> int:
    """Answer until SIGTERM or SIGINT, then finish what has begun; returns the exit code, 128 + the signal.

    Args:
        app: what `precis.service.app.create_app` made.
        listener: see `listen`.
        header_seconds: how long a connection may take to send the headers of a request.
        connections: open at a time; more are told to come back.
        when_ready: called once requests are answered.
    """
    protocol = type(
        "Protocol", (_Protocol,), {"header_seconds": header_seconds, "most_connections": connections}
    )
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=_HEADER_BYTES,
    )
    server = _Server(config, when_ready)
    server.run(sockets=[listener])
    return 128 + server.signal


class _Server(uvicorn.Server):
    """Keeps the signal for the exit code, where uvicorn would raise it again and die of it."""

    def __init__(self, config: uvicorn.Config, when_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.signal = int(signal.SIGTERM)
        self._when_ready = when_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, self.handle_exit))
            yield

    def handle_exit(self, sig: int, frame: Any) -> None:
        log.info("%s: finishing what has begun, for at most %d s", signal.Signals(sig).name, _GRACE_SECONDS)
        self.signal = sig
        super().handle_exit(sig, frame)


class _Protocol(H11Protocol):
    """A connection that has a given time for the headers of each request."""

    header_seconds: float
    most_connections: int

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._close_with(503, "too many connections are open: try again later", "Retry-After: 1\r\n")
            return
        self._patience = self.loop.call_later(self.header_seconds, self._lose_patience)

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._calm()  # a request is here; from now on the application keeps the time
        elif self._patience is None:
            self._patience = self.loop.call_later(self.header_seconds, self._lose_patience)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._calm()

    def send_400_response(self, msg: str) -> None:
        self._close_with(400, "this is no HTTP request that can be read, or its headers are too long")

    def _calm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        self._close_with(408, f"the headers were not complete after {self.header_seconds:g} s")

    def _close_with(self, status: int, message: str, more_headers: str = "") -> None:
        """Answer below the application, and hang up."""
        if self.transport.is_closing():
            return
        request_id = uuid.uuid4().hex
        body = json.dumps(
            {"error": message, "status": status, "request_id": request_id, "model_version": None}
        ).encode()
        reasons = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}
        head = (
            f"HTTP/1.1 {status} {reasons[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\n{more_headers}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
