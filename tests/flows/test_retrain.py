"""The parts of `retrain` that decide: what is trained, what is judged, and what is told to whom."""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import retrain
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.webhook import Webhook

import pipeline


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_version_counts_as_judged_when_the_last_decision_was_about_it(tmp_path):
    assert not retrain.is_judged(tmp_path)
    write(tmp_path / "reports/registered.json", {"version": 2})
    assert not retrain.is_judged(tmp_path)
    write(retrain.decision_file(tmp_path), {"version": 1, "event": "promote"})
    assert not retrain.is_judged(tmp_path), "a crash came between training and gate"
    write(retrain.decision_file(tmp_path), {"version": 2, "event": "keep"})
    assert retrain.is_judged(tmp_path)


def test_a_decision_that_a_crash_cut_short_is_none(tmp_path):
    write(retrain.decision_file(tmp_path), '{"version": 2, "ev')
    assert retrain.read_json(retrain.decision_file(tmp_path)) is None


def test_the_page_has_the_decision_and_what_had_changed(tmp_path):
    write(retrain.decision_file(tmp_path).with_suffix(".md"), "# Version 2 becomes champion\n")
    page = retrain.report(tmp_path, {"event": "promote"}, {
        "download": {"data/source": "file", "data/raw": "output"},
        "prepare": {"data/raw/train.parquet": "file", "prepare.examples": "parameter"},
    })  # fmt: skip
    assert page.startswith("# Version 2 becomes champion\n")
    assert "What had changed: `data/source`, `prepare.examples`." in page


def test_only_what_changed_and_what_depends_on_it_is_to_do(repository):
    with pipeline.pipeline_lock(repository) as lock:
        for stage in pipeline.stages(repository):
            pipeline.run_stage(stage, lambda line: None, root=repository, lock=lock)
    assert pipeline.changes(repository) == {}
    (repository / "large.txt").write_text("changed by hand")
    assert list(pipeline.changes(repository)) == ["report", "train@large"]


DOWNLOAD = """\
stages:
  download:
    cmd: cat source/* > raw.txt
    deps: [source, src/read.py]
    params: [corpus.max_rows]
    outs: [raw.txt]
  train:
    cmd: cp raw.txt model.txt
    deps: [raw.txt]
    params: [train.seed]
    outs: [model.txt]
"""


def test_only_new_data_waits_for_drift_and_code_and_parameters_do_not(make_repository):
    root = make_repository(DOWNLOAD)
    write(root / "source/a.txt", "a")
    write(root / "src/read.py", "read")
    params = "corpus: {max_rows: 1}\ntrain: {seed: 1}\n"
    write(root / "params.yaml", params)
    with pipeline.pipeline_lock(root) as lock:
        for stage in pipeline.stages(root):
            pipeline.run_stage(stage, lambda line: None, root=root, lock=lock)

    def is_only_data():
        return retrain.is_only_data(pipeline.changes(root))

    assert not is_only_data()
    write(root / "source/b.txt", "b")
    assert is_only_data()
    write(root / "params.yaml", params.replace("seed: 1", "seed: 2"))
    assert not is_only_data()
    write(root / "params.yaml", params.replace("max_rows: 1", "max_rows: 2"))
    assert not is_only_data()
    write(root / "params.yaml", params)
    assert is_only_data()
    write(root / "src/read.py", "read differently")
    assert not is_only_data()


HUB = """\
stages:
  download:
    cmd: mkdir -p data/raw && cat hub/* > data/raw/train.txt
    params: [corpus]
    outs: [data/raw]
  prepare:
    cmd: cp data/raw/train.txt prepared.txt
    deps: [data/raw]
    outs: [prepared.txt]
"""


def test_new_rows_of_the_hub_are_seen_and_old_ones_change_nothing(make_repository):
    root = make_repository(HUB)
    write(root / "hub/a.txt", "a")
    write(root / "params.yaml", "corpus: {source: hub, hub: {name: hub, revision: null}}\n")
    with pipeline.pipeline_lock(root) as lock:

        def run(stage, *, force):
            pipeline.run_stage(stage, lambda line: None, root=root, lock=lock, force=force)

        for stage in pipeline.stages(root):
            run(stage, force=False)
        run("download", force=True)
        assert pipeline.changes(root) == {}
        write(root / "hub/b.txt", "b")
        assert pipeline.changes(root) == {}, "DVC does not know of the hub"
        run("download", force=True)
    assert pipeline.changes(root) == {"prepare": {"data/raw": "file"}}
    assert retrain.is_only_data(pipeline.changes(root))


@pytest.mark.parametrize(
    ("corpus", "moves"),
    [
        ("{source: hub, hub: {name: owner/name, revision: main}}", True),
        ("{source: hub, hub: {name: owner/name, revision: null}}", True),
        (f"{{source: hub, hub: {{name: owner/name, revision: {'0a' * 20}}}}}", False),
        (f"{{source: hub, hub: {{name: here, revision: {'0a' * 20}}}}}", True),
        ("{source: files, hub: {name: null, revision: null}}", False),
        ("[", False),
    ],
)
def test_a_corpus_of_the_hub_may_have_moved_unless_it_is_pinned(tmp_path, corpus, moves):
    (tmp_path / "here").mkdir()
    write(tmp_path / "params.yaml", f"corpus: {corpus}\n")
    assert retrain.may_have_moved(tmp_path) == moves


class Listener(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def listener():
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        server.heard, server.answer = [], 200
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@flow
def publish(page, block):
    retrain.publish(page, block)


@pytest.mark.usefixtures("server")
def test_a_webhook_gets_the_page_and_its_silence_is_no_failure(listener, monkeypatch, caplog):
    monkeypatch.setattr(retrain.tell, "retry_delay_seconds", [0.0] * 3)
    url = f"http://127.0.0.1:{listener.server_address[1]}/hook"
    Webhook(url=url, allow_private_urls=True).save("team", overwrite=True)
    publish("# Version 2 becomes champion", "webhook/team")
    (heard,) = listener.heard
    assert heard == {"subject": "precis: retraining", "text": "# Version 2 becomes champion"}
    listener.answer = 500
    publish("# Version 3 becomes champion", "webhook/team")
    assert "nobody was told: webhook/team did not take the message" in caplog.text
    publish("# Version 3 becomes champion", "webhook/nobody-made-this")
    assert "nobody was told: webhook/nobody-made-this did not take the message" in caplog.text


@pytest.mark.usefixtures("server")
def test_a_notification_block_gets_the_page(listener):
    block = CustomWebhookNotificationBlock(
        name="chat",
        url=f"http://127.0.0.1:{listener.server_address[1]}/hook",
        json_data={"title": "{{subject}}", "message": "{{body}}"},
    )
    block.save("team", overwrite=True)
    publish("# Version 2 becomes champion", "custom-webhook/team")
    assert listener.heard == [{"title": "precis: retraining", "message": "# Version 2 becomes champion"}]


@pytest.mark.usefixtures("server")
def test_without_a_block_the_page_is_in_the_log(caplog):
    publish("# Version 2 becomes champion", None)
    assert "# Version 2 becomes champion" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_run_that_takes_too_long_ends_with_its_stage(make_repository):
    root = make_repository(
        "stages:\n  download:\n    cmd: echo $$ > pid && exec sleep 300\n    outs: [raw.txt]\n"
    )
    in_time = retrain.retrain.with_options(timeout_seconds=40)
    begin = time.monotonic()
    state = in_time(repository=root, return_state=True)
    assert state.name == "TimedOut"
    assert time.monotonic() - begin < 200, "and not when the stage ended by itself, after 300 s"
    stage = int((root / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(stage, 0)
