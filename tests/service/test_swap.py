"""Models that change while requests come in, and a service that is told to stop."""

import json
import signal
import socket
import threading
import time

import pytest
from running import Running
from tiny_model import DOCUMENTS
from tiny_registry import NAME, Registry

from precis.serving.summarizer import Summarizer


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        yield Registry(folder)


def expected(directory) -> list[str]:
    return [summary.text for summary in Summarizer.load(directory).summarize(DOCUMENTS)]


class Clients:
    """Threads that ask all the time; what they got is in `answers`."""

    def __init__(self, server: Running, number: int) -> None:
        self.answers = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(number)]

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(self._server.summarize(documents=DOCUMENTS))
            except OSError as error:
                self.answers.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def swap_under_load(registry, server, clients, versions):
    """Promote versions one after the other, each once the one before has answered; every answer must be right."""
    texts = {str(number): expected(registry.models[number]) for number in set(versions)}
    assert len({json.dumps(text) for text in texts.values()}) == len(texts)
    for number in versions:
        registry.promote(number)
        server.wait_until(lambda health, number=number: health["model_version"] == str(number))
        seen = len(clients.answers)
        while len(clients.answers) < seen + 10:
            time.sleep(0.01)
    return texts


def check_all(answers, texts):
    for answer in answers:
        assert not isinstance(answer, OSError), answer
        assert answer.status == 200, answer.body
        version = answer.json["model_version"]
        assert answer.headers["x-model-version"] == version
        assert [summary["summary"] for summary in answer.json["summaries"]] == texts[version]
        assert {summary["model_version"] for summary in answer.json["summaries"]} == {version}


def test_a_new_champion_answers_without_a_failed_request_and_bad_ones_never_do(registry):
    first, second = registry.add(1), registry.add(2)
    sick, damaged = registry.add(3, is_sick=True), registry.add(4)
    registry.damage(damaged)
    registry.promote(first)
    with Running("--watch", "0.3", "--waiting", "1000") as server, Clients(server, 4) as clients:
        texts = swap_under_load(registry, server, clients, [first, second])
        for bad, reason in ((damaged, "does not match its manifest"), (sick, "")):
            registry.promote(bad)
            server.wait_until(lambda health: health["models"]["champion"]["problem"] is not None)
            health = server.get("/health")
            assert health.status == 200 and health.json["status"] == "degraded"
            problem = health.json["models"]["champion"]["problem"]
            assert problem.startswith(f"version {bad} is refused, version {second} still answers: ")
            assert reason in problem
            assert (
                f"ERROR precis.service.swap: models:/precis@champion: version {bad} is refused"
                in server.output
            )
            registry.promote(second)
            server.wait_until(lambda health: health["status"] == "ok")
        swaps = server.get("/metrics").body.decode()
        assert 'precis_model_swaps{model="champion"} 1.0' in swaps
        assert 'precis_model_candidates_refused{model="champion"} 2.0' in swaps
    check_all(clients.answers, texts)
    assert {answer.json["model_version"] for answer in clients.answers} == {str(first), str(second)}


def test_it_waits_for_a_first_champion_if_told_to(registry):
    registry.client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(AssertionError, match="nothing is called precis@champion"):
        Running()
    with Running("--wait", "--watch", "0.3") as server:
        assert server.get("/health").status == 503
        answer = server.summarize(document="a fox")
        assert answer.status == 503 and "no model is loaded as champion yet" in answer.json["error"]
        assert answer.json["model_version"] is None and "retry-after" in answer.headers
        registry.promote(1)
        server.wait_until(lambda health: health["status"] == "ok")
        assert server.summarize(document="a fox").json["model_version"] == "1"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_it_finish_what_it_began(tiny, number, code):
    text = "the quick brown fox jumps over the lazy dog " * 200
    answers = []
    with Running("--model", str(tiny), "--batch-size", "2", "--waiting", "100") as server:

        def ask() -> None:
            answers.append(
                server.summarize(documents=[text] * 4, beam_size=8, min_length=100, max_length=120)
            )

        crowd = [threading.Thread(target=ask) for _ in range(3)]
        for thread in crowd:
            thread.start()
        while "precis_requests_in_flight 4.0" not in server.get("/metrics").body.decode():
            assert not answers, "they were answered before the signal"
            time.sleep(0.01)
        server.process.send_signal(number)
        for thread in crowd:
            thread.join()
        assert server.process.wait(30) == code
        assert [answer.status for answer in answers] == [200] * 3
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.host, server.port)).close()
        assert "Traceback" not in server.output


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_soak_2000_requests_over_10_swaps_and_10_bad_candidates(registry):
    first, second = registry.add(11), registry.add(12)
    registry.promote(first)
    with Running("--watch", "0.3", "--waiting", "1000") as server, Clients(server, 8) as clients:
        texts = swap_under_load(registry, server, clients, [first, second])
        for place in range(10):
            bad = registry.add(20 + place, is_sick=place % 2 == 0)
            if place % 2:
                registry.damage(bad)
            registry.promote(bad)
            server.wait_until(lambda health: health["models"]["champion"]["problem"] is not None)
            swap_under_load(registry, server, clients, [second, first] if place % 2 else [first, second])
        while len(clients.answers) < 2000:
            time.sleep(0.1)
        health = server.get("/health").json["models"]["champion"]
        assert health["swaps"] >= 10 and health["refused"] >= 10
    check_all(clients.answers, texts)
