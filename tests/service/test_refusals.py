"""What the service does not take, and what it says then."""

import json
import socket
import threading
import time

import pytest
from running import Running

JSON = {"Content-Type": "application/json"}
TOKEN = "not-for-anybody-else"


@pytest.fixture(scope="module")
def server(tiny):
    """It waits for slow clients one second only."""
    with Running("--model", str(tiny), "--body-seconds", "1", "--max-connections", "40") as running:
        yield running
        assert "Traceback" not in running.output


def body(**values) -> bytes:
    return json.dumps(values).encode()


HOSTILE = {
    "a document of 20 MB": (body(document="a" * 20_000_000), JSON, 413, "larger than 262,144 bytes"),
    "1,000 documents": (body(documents=["a"] * 1000), JSON, 413, "1000 documents, at most 16"),
    "a document of 20,001 characters": (body(document="a" * 20_001), JSON, 413, "20,001 characters, at most"),
    "no content type": (body(document="a"), {}, 415, "application/json"),
    "a form": (b"document=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
    "another charset": (body(document="a"), {"Content-Type": "application/json; charset=utf-16"}, 415, "UTF-8"),
    "a compressed body": (b"\x1f\x8b", JSON | {"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, JSON, 400, "deeper than 16"),
    "levels in an open string": (b'{"document": "' + b'\\"' * 100_000 + b"\\", JSON, 400, "not JSON"),
    "half a surrogate pair": (b'{"document": "\\ud83d"}', JSON, 400, "not JSON"),
    "no UTF-8": (b'{"document": "\xff"}', JSON, 400, "not JSON"),
    "no JSON": (b"{'document': 1}", JSON, 400, "not JSON"),
    "nothing": (b"", JSON, 400, "not JSON"),
    "a number that is none": (b'{"beam_size": NaN}', JSON, 400, "not JSON"),
    "a list": (b"[]", JSON, 422, "expected a JSON object, found a list"),
    "no document": (b"{}", JSON, 422, "expected either `document` or `documents`"),
    "no documents": (body(documents=[]), JSON, 422, "documents: List should have at least 1 item"),
    "a number for a text": (body(documents=["a", 1]), JSON, 422, "documents.1: Input should be a valid string"),
    "a text for a number": (body(document="a", beam_size="4"), JSON, 422, "beam_size: Input should be a valid int"),
    "an unknown key": (body(document="a", beams=4), JSON, 422, "beams: Extra inputs are not permitted"),
    "a beam of a million": (body(document="a", beam_size=10**6), JSON, 422, "at most 16 is allowed"),
    "a number of 5,000 digits": (b'{"document": "a", "max_length": ' + b"9" * 5000 + b"}", JSON, 400, "not JSON"),
    "a longest below the shortest": (body(document="a", min_length=5, max_length=4), JSON, 422, "exceeds"),
    "another model": (body(document="a", model="../../etc/passwd"), JSON, 422, "model: expected one of tiny"),
    "another host": (body(document="a"), JSON | {"Host": "evil.example"}, 400, "Host is not served"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_requests_are_refused_with_a_reason(server, case):
    data, headers, status, message = HOSTILE[case]
    answer = server.ask("POST", "/summarize", data, headers)
    assert answer.status == answer.json["status"] == status
    assert message in answer.json["error"] and len(answer.body) < 2000
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert server.summarize(document="still here").status == 200


def test_a_body_without_announced_length_is_counted_as_it_comes(server):
    connection = server.connection()
    pieces = (b"x" * 65_536 for _ in range(64))
    connection.request("POST", "/summarize", pieces, JSON, encode_chunked=True)
    assert connection.getresponse().status == 413


def exchange(server, data: bytes, seconds: float = 20) -> bytes:
    """What comes back, until the server hangs up."""
    with socket.create_connection((server.host, server.port), timeout=seconds) as client:
        client.sendall(data)
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
        return answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b"408"),
        (b"POST /summarize HTTP/1.1\r\nHost: localhost\r\n", b"408"),
        (
            b"POST /summarize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"document',
            b"408",
        ),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 30_000, b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3 + b"\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.0\r\n\r\n", b"400"),
        (b"POST /summarize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
    ids=["silent", "headers", "body", "long headers", "not HTTP", "no host", "negative length"],
)
def test_who_does_not_finish_a_request_is_hung_up_on(server, sent, status):
    answer = exchange(server, sent)
    head, _, text = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert json.loads(text)["request_id"]


def test_clients_that_drip_do_not_keep_others_from_their_answers(server):
    stop = threading.Event()
    ended = []

    def drip() -> None:
        with socket.create_connection((server.host, server.port), timeout=20) as client:
            try:
                client.sendall(b"POST /summarize HTTP/1.1\r\nHost: localhost\r\n")
                while not stop.is_set():
                    client.sendall(b"X-A: b\r\n")
                    time.sleep(0.1)
            except OSError:
                ended.append(True)  # hung up on, though it never stopped sending

    slow = [threading.Thread(target=drip) for _ in range(30)]
    for thread in slow:
        thread.start()
    try:
        for _ in range(10):
            assert server.summarize(document="a fox jumps").status == 200
        deadline = time.monotonic() + 30
        while len(ended) < len(slow):
            assert time.monotonic() < deadline, f"{len(slow) - len(ended)} still hold their connections"
            time.sleep(0.1)
    finally:
        stop.set()
        for thread in slow:
            thread.join()


def test_more_connections_than_allowed_are_told_to_come_back(server):
    crowd = [socket.create_connection((server.host, server.port), timeout=20) for _ in range(45)]
    try:
        answers = [client.recv(4096) for client in crowd]
        assert {answer[9:12] for answer in answers} == {b"408", b"503"}
        assert all(b"Retry-After" in answer for answer in answers if answer[9:12] == b"503")
    finally:
        for client in crowd:
            client.close()
    assert server.get("/health").status == 200


def test_a_full_queue_refuses_and_answers_again_when_it_is_empty(tiny):
    with Running("--model", str(tiny), "--waiting", "2", "--batch-size", "1") as server:
        text = "the quick brown fox jumps over the lazy dog " * 200
        answers = []

        def ask() -> None:
            answers.append(server.summarize(document=text, beam_size=16, min_length=150, max_length=200))

        crowd = [threading.Thread(target=ask) for _ in range(12)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        refused = [answer for answer in answers if answer.status != 200]
        assert 0 < len(refused) < 12
        assert {answer.status for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert server.summarize(document=text).status == 200


def test_a_request_past_its_deadline_is_told_so(tiny):
    with Running("--model", str(tiny), "--deadline", "0.1") as server:
        text = "the quick brown fox jumps over the lazy dog " * 400
        late = server.summarize(documents=[text] * 10, beam_size=16, min_length=190, max_length=200)
        assert (late.status, late.json["error"]) == (503, "no answer within 0.1 s")
        assert "retry-after" in late.headers
        server.wait_until(lambda health: health["waiting"] == 0)


def test_with_a_token_only_those_who_have_it_get_answers(tiny):
    with Running("--model", str(tiny), PRECIS_SERVE_TOKEN=TOKEN) as server:
        assert server.get("/health").status == 200
        for path in ("/metrics", "/nothing", "/summarize"):
            answer = server.get(path)
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"):
            assert server.get("/metrics", Authorization=wrong).status == 401
        right = {"Authorization": f"Bearer {TOKEN}"} | JSON
        answer = server.ask("POST", "/summarize", body(document="a fox"), right)
        assert answer.status == 200
        assert TOKEN not in server.output + answer.body.decode() + server.get("/health").body.decode()


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        (["--host", "0.0.0.0"], {}, "can be reached from other machines"),
        ([], {"PRECIS_SERVE_TOKEN": "short"}, "at least 16 ASCII characters"),
        (["--host", "192.0.2.1", "--no-token"], {}, "cannot listen on 192.0.2.1"),
        (["--model", "nowhere"], {}, "nowhere not found: expected models:/NAME@ALIAS"),
        (["--watch", "0", "--wait"], {}, "--wait waits for what --watch finds"),
    ],
)
def test_it_does_not_start_where_it_should_not(tiny, options, environment, message):
    with pytest.raises(AssertionError, match="it ended with 1") as ended:
        Running("--model", str(tiny), *options, **environment)
    assert message in str(ended.value) and "Traceback" not in str(ended.value)
