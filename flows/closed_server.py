"""Prefect's server for this machine alone: `python flows/closed_server.py --port 4200`.

Prefect answers whoever reaches it by whatever name. A page in a browser on this machine reaches loopback, too: by a
name that leads there (DNS rebinding), or by sending a form to it. So requests for another host, or from a page of
another origin, are refused before Prefect sees them. With PREFECT_SERVER_API_AUTH_STRING=user:password it asks for
these, too.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
LOCAL_NAMES = ("127.0.0.1", "localhost")


class LocalOnly:
    """Refuses what was not meant for this server, by its Host and its Origin.

    Args:
        app: that answers what is left.
        port: that is listened on.
        names: of this machine, as people and programs call it.
    """

    def __init__(self, app: Any, port: int, names: Iterable[str] = LOCAL_NAMES) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in names}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or hand on; the messages that start and end the server are handed on, too."""
        if scope["type"] not in ("http", "websocket") or self._is_meant(scope["headers"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": b"this server answers this machine alone\n"})

    def _is_meant(self, headers: list[tuple[bytes, bytes]]) -> bool:
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        return len(hosts) == 1 and hosts[0] in self._hosts and all(one in self._origins for one in origins)


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=4200)
    port = parser.parse_args().port
    url = f"http://127.0.0.1:{port}"
    for name, value in {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url,
    }.items():
        os.environ[name] = value
    # read when they are imported
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(
        LocalOnly(create_app(final=True), port),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        timeout_keep_alive=5,
        server_header=False,
    )


if __name__ == "__main__":
    main()
