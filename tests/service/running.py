"""A real `precis serve`, talked to over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

PRECIS = str(Path(sys.executable).with_name("precis"))


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """Starts it at a free port and waits until it answers."""

    def __init__(self, *options: str, cwd: Path | None = None, **environment: str) -> None:
        # a file, since nobody empties a pipe while the tests talk to it
        self._folder = tempfile.TemporaryDirectory(prefix="serve-")
        self._log = Path(self._folder.name) / "log"
        with self._log.open("w") as written:
            self.process = subprocess.Popen(
                [PRECIS, "serve", "--port", "0", *options],
                cwd=cwd,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                stdout=written,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 240
        while (found := re.search(r"serves at http://([^:]+|\[.*\]):(\d+)", self.output)) is None:
            if (code := self.process.poll()) is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"it ended with {code}:\n{self.output}")
            time.sleep(0.05)
        self.host, self.port = found[1].strip("[]"), int(found[2])

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def output(self) -> str:
        """All that it has written so far."""
        return self._log.read_text(encoding="utf-8")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Its exit code after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def connection(self, seconds: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=seconds)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request over a connection of its own."""
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def summarize(self, **values: Any) -> Answer:
        return self.ask(
            "POST", "/summarize", json.dumps(values).encode(), {"Content-Type": "application/json"}
        )

    def wait_until(self, condition: Any, seconds: float = 60) -> None:
        """Until `condition(health)` holds."""
        deadline = time.monotonic() + seconds
        while not condition(health := self.get("/health").json):
            assert time.monotonic() < deadline, f"{health}\n{self.output}"
            time.sleep(0.05)
