"""What a client gets."""

import re

from tiny_model import DOCUMENTS

from precis.manifest import combined_digest, digests_of
from precis.serving.summarizer import Summarizer


def without_tokens(summary):
    return {name: value for name, value in summary.as_dict().items() if name != "tokens"}


def test_summaries_are_those_of_the_summarizer(server, tiny):
    summarizer = Summarizer.load(tiny, digest=combined_digest(digests_of(tiny)))
    answer = server.summarize(documents=DOCUMENTS)
    assert answer.status == 200
    assert answer.json["summaries"] == [without_tokens(one) for one in summarizer.summarize(DOCUMENTS)]
    changes = {"beam_size": 1, "min_length": 3, "max_length": 4}
    alone = server.summarize(document=DOCUMENTS[1], provenance=True, **changes)
    assert alone.json["summaries"] == [
        one.as_dict() for one in summarizer.summarize([DOCUMENTS[1]], **changes)
    ]
    assert 3 <= len(alone.json["summaries"][0]["tokens"]) <= 4


def test_every_copied_word_stands_in_the_document_where_the_answer_says(server):
    answers = server.summarize(documents=DOCUMENTS, provenance=True).json["summaries"]
    copied = 0
    for document, answer in zip(DOCUMENTS, answers, strict=True):
        for token in answer["tokens"]:
            assert answer["summary"][token["start"] : token["end"]] == token["text"]
            assert abs(token["generated"] + token["copied"] - token["probability"]) < 1e-5
            for start, end, weight in token.get("attended", []):
                assert 0 <= start < end <= len(document) and 0 <= weight <= 1
            if token["origin"] == "copied":
                start, end = token["source"]
                assert document[start:end] == token["text"]
                copied += 1
    assert copied > 0


def test_every_answer_has_its_request_id_and_the_version(server, tiny):
    version = combined_digest(digests_of(tiny))[:12]
    for answer in (
        server.summarize(document="one"),
        server.summarize(documents=[]),
        server.get("/health"),
        server.get("/nothing"),
        server.ask("DELETE", "/summarize"),
    ):
        assert answer.json["request_id"] == answer.headers["x-request-id"]
        assert answer.json["model_version"] == answer.headers["x-model-version"] == version
    given = {"X-Request-ID": "order-66"}
    assert server.ask("GET", "/health", headers=given).json["request_id"] == "order-66"
    forged = {"X-Request-ID": "a b<script>"}
    assert server.ask("GET", "/health", headers=forged).json["request_id"] != "a b<script>"


def test_the_page_about_the_addresses_asks_no_other_host_for_anything(server):
    page = server.get("/docs")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    files = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert files and all(name.startswith("/docs-files/") for name in files)
    for name in files:
        assert server.get(name).status == 200
    described = server.get("/openapi.json").json["paths"]
    asked = described["/summarize"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"document", "documents", "model", "provenance", "beam_size"} <= asked["properties"].keys()
    assert {"/health", "/metrics"} <= described.keys()
