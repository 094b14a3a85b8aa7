"""Requests that nobody would write."""

import http.client
import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ALLOWED = {200, 400, 408, 413, 415, 422, 429, 503}

texts = st.text(st.characters(exclude_categories=[]), max_size=300) | st.sampled_from(
    ["", "\0", "\ud800", "a" * 19_999, "é" * 20_001, "<script>", "\u202e", "word " * 3000, "\n" * 500]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
small = st.integers(-1, 30) | st.sampled_from([10**6, 2**63, 10**30])
nearly = st.fixed_dictionaries(
    {},
    optional={
        "document": texts | anything,
        "documents": st.lists(texts, max_size=20) | anything,
        "model": st.sampled_from(["tiny", "", "../x"]) | anything,
        "provenance": st.booleans() | anything,
        "beam_size": small | anything,
        "min_length": small | anything,
        "max_length": small | anything,
        "extra": anything,
    },
)
good = st.fixed_dictionaries(
    {"documents": st.lists(texts, min_size=1, max_size=4)},
    optional={"provenance": st.booleans(), "beam_size": st.integers(1, 4), "max_length": st.integers(1, 12)},
)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """JSON with a few bytes changed, cut off or repeated."""
    data = bytearray(draw((good | nearly).map(encoded)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


bodies = (
    good.map(encoded)
    | nearly.map(encoded)
    | anything.map(encoded)
    | damaged()
    | st.binary(max_size=2000)
    | st.sampled_from(
        [b"[" * 5000, b'{"a":' * 3000, b'"' * 10_000, b"x" * 300_000, b"9" * 20_000, b'\\"' * 999]
    )
)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)
requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["POST"] * 12 + ["GET", "PUT", "DELETE", "OPTIONS", "BREW"]),
        "path": st.sampled_from(
            ["/summarize"] * 12 + ["/", "/health", "/metrics", "/%00", "/../etc/passwd", "/docs"]
        ),
        "body": bodies,
        "headers": st.just({"Content-Type": "application/json"})
        | st.dictionaries(
            st.sampled_from(["Content-Type", "X-Request-ID", "Host", "Authorization", "Accept", "Expect"]),
            header_values,
            max_size=3,
        ),
    }
)


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def fuzz(server, number: int) -> dict[int, int]:
    """Send that many requests; how many got which status."""
    counts: dict[int, int] = {}
    connection = server.connection(seconds=60)

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests)
    def send(request) -> None:
        nonlocal connection
        headers = {name: value.strip().encode("latin-1") for name, value in request["headers"].items()}
        try:
            connection.request(request["method"], request["path"], request["body"], headers)
            answer = connection.getresponse()
            text = answer.read()
        except (http.client.BadStatusLine, http.client.RemoteDisconnected, ConnectionError):
            connection.close()
            connection = server.connection(seconds=60)
            assert server.process.poll() is None
            counts[0] = counts.get(0, 0) + 1
            return
        counts[answer.status] = counts.get(answer.status, 0) + 1
        assert answer.status in ALLOWED | {404, 405}, (answer.status, text, request)
        if answer.status != 200:
            assert json.loads(text)["error"]

    send()
    connection.close()
    return counts


def check(server, number: int) -> None:
    fuzz(server, 200)  # so that what is made at first use is there
    before = resident(server.process.pid)
    counts = fuzz(server, number)
    growth = resident(server.process.pid) / before - 1
    sys.stdout.write(f"{number} requests: {dict(sorted(counts.items()))}, memory {growth:+.1%}\n")
    assert counts[200] > number / 20 and counts[400] > number / 50 and counts[422] > number / 50
    # what hung up on is what was no HTTP at all
    assert counts.get(0, 0) < number / 20
    assert growth < 0.1
    assert server.get("/health").json["status"] == "ok"
    assert "Traceback" not in server.output


def test_500_random_requests_leave_the_service_well(server):
    check(server, 500)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_10000_random_requests_leave_the_service_well(server):
    check(server, 10_000)
