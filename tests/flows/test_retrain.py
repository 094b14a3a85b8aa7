"""The parts of `retrain` that decide, without Prefect: what is judged, and what is told."""

import json

import retrain

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
    page = retrain.report(tmp_path, {"event": "promote"}, ["download", "prepare"])
    assert page.startswith("# Version 2 becomes champion\n")
    assert "download, prepare" in page


def test_only_what_changed_and_what_depends_on_it_is_to_do(repository):
    with pipeline.pipeline_lock(repository) as lock:
        for stage in pipeline.stages(repository):
            pipeline.run_stage(stage, lambda line: None, root=repository, lock=lock)
    assert pipeline.changed_stages(repository) == []
    (repository / "large.txt").write_text("changed by hand")
    assert pipeline.changed_stages(repository) == ["report", "train@large"]
