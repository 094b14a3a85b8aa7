"""`precis search` as a process, on a corpus of made-up tickets."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from project import SMALL, write_tickets

from precis.corpora.overrides import load_yaml, merge
from precis.search.workbench import prepare_corpus

ROOT = Path(__file__).parents[2]
PRECIS = str(Path(sys.executable).with_name("precis"))


class Folder:
    """A folder with prepared data and no test split: a search has no use for one."""

    def __init__(self, path: Path, changes: dict | None = None, rows: int = 300) -> None:
        self.path = path
        write_tickets(path / "tickets.jsonl", rows)
        values = load_yaml(ROOT / "params.yaml")
        files = {"corpus": {"files": {"path": str(path / "tickets.jsonl")}}}
        for change in (SMALL, files, changes or {}):
            merge(values, change)
        prepare_corpus(path, values, path / "log.txt")
        (path / "data/prepared/test.parquet").unlink()
        (path / "data/raw/test.parquet").unlink()

    def start(self, space: str, *arguments: str) -> subprocess.Popen[str]:
        (self.path / "space.yaml").write_text(space)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        return subprocess.Popen(
            [PRECIS, "search", "space.yaml", "--documents", "20", *arguments],
            cwd=self.path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def search(self, space: str, *arguments: str) -> tuple[int, str, str]:
        process = self.start(space, *arguments)
        try:
            out, err = process.communicate()
        finally:  # pytest's time-out comes as an exception
            process.kill()
        return process.returncode, out, err

    def trials(self) -> list[list[str]]:
        lines = (self.path / "reports/search/trials.md").read_text().splitlines()[2:]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


SPACE = "model: {dropout: [0.0, 0.5]}\nvocabulary: {target_size: [60, 120]}\n"


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("search"))
    code, out, err = folder.search(SPACE, "--trials", "2")
    assert code == 0, out + err
    assert "the best: ROUGE-1" in out
    return folder


def test_the_best_trial_becomes_a_recipe(searched):
    trials = searched.trials()
    assert [trial[1] for trial in trials] == ["complete", "complete"]
    assert float(trials[0][2]) + float(trials[0][3]) >= float(trials[1][2]) + float(trials[1][3])
    subprocess.run([PRECIS, "recipe", "reports/search/best.yaml"], cwd=searched.path, check=True)
    values = load_yaml(searched.path / "params.yaml")
    dropout, size = trials[0][4:]
    assert (values["model"]["dropout"], values["vocabulary"]["target_size"]) == (float(dropout), int(size))
    assert values["decoding"]["beam_size"] == 4


def test_each_trial_is_a_child_run(searched):
    client = mlflow.MlflowClient(f"sqlite:///{searched.path / 'mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    (parent,) = [run for run in runs if run.info.run_name.startswith("search ")]
    children = [run for run in runs if run is not parent]
    assert len(children) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    best = max(run.data.metrics["search_rouge1"] + run.data.metrics["search_rouge2"] for run in children)
    assert parent.data.metrics["best_rouge1_plus_rouge2"] == pytest.approx(best)


@pytest.mark.faults
def test_a_killed_search_goes_on_with_the_trial_that_it_was_in(tmp_path):
    folder = Folder(tmp_path, {"train": {"max_epochs": 200, "patience": 200, "checkpoint_every_updates": 5}})
    process = folder.start("model: {dropout: [0.0, 0.5]}\n", "--trials", "1")
    deadline = time.monotonic() + 120
    checkpoints = ".work/search/*/trials/0000/.work/train/pointer/*/*/*.ckpt"
    while not list(tmp_path.glob(checkpoints)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    lock = next(tmp_path.glob(".work/search/*/trials/0000/.work/train/pointer/lock"))
    wait_until_free(lock)  # the training has heard of it, too

    code, out, err = folder.search("model: {dropout: [0.0, 0.5]}\n", "--trials", "1")
    assert code == 0, out + err
    assert "going on with trial 0000, which was cut off" in err
    assert [trial[0] for trial in folder.trials()] == ["0000"]
    log = next(tmp_path.glob(".work/search/*/trials/0000/log.txt")).read_text()
    assert "pointer: going on from update" in log


@pytest.mark.faults
def test_a_search_that_is_asked_to_stop_leaves_no_process_behind(tmp_path):
    folder = Folder(tmp_path, {"train": {"max_epochs": 200, "patience": 200}})
    process = folder.start("model: {dropout: [0.0, 0.5]}\n", "--trials", "1")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".work/search/*/trials/0000/.work/train/pointer/*/metrics.jsonl")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on from here" in err and "Traceback" not in out + err
    wait_until_free(next(tmp_path.glob(".work/search/*/trials/0000/.work/train/pointer/lock")), seconds=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_lags_behind_is_stopped_early(tmp_path):
    folder = Folder(tmp_path, {"train": {"max_epochs": 6}})
    space = "train: {learning_rate: {low: 1.0e-6, high: 0.02, log: true}}\n"
    code, out, err = folder.search(space, "--trials", "7")
    assert code == 0, out + err
    trials = folder.trials()
    assert len(trials) == 7 and trials[0][1] == "complete"
    stopped = [trial for trial in trials if trial[1] == "stopped early"]
    assert stopped and all(trial[2:4] == ["", ""] for trial in stopped)
    # what learns next to nothing in its few updates is no longer waited for
    assert max(float(trial[4]) for trial in stopped) < float(trials[0][4])
    assert f"trial {stopped[0][0]}: stopped, its validation loss" in err


@pytest.mark.slow
def test_a_small_space_is_searched_once(tmp_path):
    folder = Folder(tmp_path, {"train": {"max_epochs": 1}})
    code, out, err = folder.search("model: {dropout: [0.0, 0.5]}\n", "--trials", "5")
    assert code == 0, out + err
    assert sorted(trial[4] for trial in folder.trials()) == ["0", "0.5"]


def test_the_time_is_kept_and_what_was_begun_is_not_lost(tmp_path):
    folder = Folder(tmp_path, {"train": {"max_epochs": 3}})
    code, out, err = folder.search("model: {dropout: [0.0, 0.5]}\n", "--minutes", "0")
    assert (code, "give it more --minutes" in out) == (0, True), out + err
    assert not (tmp_path / "reports/search").exists()


@pytest.mark.parametrize(
    ("space", "arguments", "message"),
    [
        ("model: {dropout: [0.1, 2.0]}\n", (), "space.yaml cannot be searched:\n  model.dropout: with 2.0"),
        ("model: {dropout: [0.1, 0.2]}\n", ("--model", "transformer"), "expected encoder_decoder, attention"),
    ],
)
def test_what_cannot_be_searched_is_one_message(searched, space, arguments, message):
    code, _, err = searched.search(space, *arguments)
    assert code == 1
    assert err.startswith("error: ") and message in err and "Traceback" not in err


def test_without_data_it_says_what_to_run(tmp_path):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "search.yaml").write_text("model: {dropout: [0.1, 0.2]}\n")
    done = subprocess.run([PRECIS, "search"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/prepared/train.parquet not found: run `dvc repro prepare`")


def wait_until_free(lock: Path, seconds: float = 60) -> None:
    import fcntl

    deadline = time.monotonic() + seconds
    while True:
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                assert time.monotonic() < deadline, f"{lock} is still held"
        time.sleep(0.1)
