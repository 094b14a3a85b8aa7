"""What is on its way to MLflow: written to a folder first, sent when the store answers, sent once.

A parcel is a folder with all that one run is to be told. It can be sent by anybody at any time, also after the
process that wrote it was killed, and as often as one likes: what the store has already is left out.

    head.json      which run, by its fingerprint, and what it is made with; without the latter it must be there
    metrics.jsonl  points of the training's curves, lines [name, value, milliseconds, step]; one of a step counts
    scores.jsonl   other numbers, lines of the same kind; every line counts that says something new
    tags.json      more tags
    files/         artifacts, under the paths that they will have; each is removed when the store has it
    run_id         once the store has the run
    end.json       how it ended; absent while it goes on
    arrived        everything has been sent, the end too
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precis.errors import PrecisError, log_to_stderr
from precis.files import atomic_path
from precis.training.tracking import FINGERPRINT_TAG, configure, experiment_id, find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

Point = tuple[str, float, int, int]  # name, value, milliseconds, step

log = logging.getLogger(__name__)

TRAININGS, WAITING = Path(".work/train"), Path(".work/tracking")
METRICS, SCORES = "metrics.jsonl", "scores.jsonl"
LONGEST_WAIT = 20.0  # seconds that a stage gives the store at its end
_RETRY_SECONDS = 5.0
_METRICS_PER_CALL = 1_000  # at most that many are taken
_PARAMS_PER_CALL = 100


class Parcel:
    """A folder of what one run is to be told.

    Args:
        directory: of the parcel.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._run_id: str | None = None
        self._known: set[tuple[str, int]] = set()  # points of the curves that the store has
        self._latest: dict[str, float] = {}  # the last values that it has of everything
        self._sent_bytes = {METRICS: 0, SCORES: 0}

    def write_head(self, fingerprint: str, run: Mapping[str, Any] | None) -> None:
        """Say which run it is for.

        Args:
            fingerprint: finds the run.
            run: experiment, name, params, tags and datasets to make it with; None if it must be there.
        """
        self._write("head.json", {"fingerprint": fingerprint, "run": run})

    def add_points(self, file: str, points: Mapping[str, float], step: int) -> None:
        """Append points to `metrics.jsonl` or `scores.jsonl`; a write that a kill cut short spoils no other."""
        now = int(time.time() * 1000)
        lines = "".join(json.dumps([name, float(value), now, step]) + "\n" for name, value in points.items())
        with (self.directory / file).open("ab+") as opened:
            if opened.tell():
                opened.seek(-1, os.SEEK_END)
                if opened.read() != b"\n":
                    lines = "\n" + lines
            opened.write(lines.encode())

    def add_tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        path = self.directory / "tags.json"
        tags = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self._write(path.name, {**tags, name: value})

    def add_file(self, artifact_path: str, write: Callable[[Path], object]) -> None:
        """Have an artifact written."""
        with atomic_path(self.directory / "files" / artifact_path) as temporary:
            write(temporary)

    def keep(self) -> None:
        """See that the curves survive a loss of power, before a checkpoint goes on from them."""
        path = self.directory / METRICS
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def end(self, status: str) -> None:
        """Say how the run ended: FINISHED, FAILED or KILLED."""
        self._write("end.json", {"status": status, "milliseconds": int(time.time() * 1000)})

    @property
    def status(self) -> str | None:
        """How the run ended; None while it goes on."""
        end = self._end()
        return None if end is None else str(end["status"])

    @property
    def has_arrived(self) -> bool:
        """The store has everything."""
        return (self.directory / "arrived").exists()

    def go_on(self) -> None:
        """The run has not ended after all."""
        for name in ("arrived", "end.json"):
            (self.directory / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Everything has arrived."""
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def contents(self) -> str:
        """What it holds, in words."""
        num_points = sum(len(read_points(self.directory / file)[0]) for file in (METRICS, SCORES))
        return f"{num_points} figures and {len(self._files())} files"

    def send(self, client: MlflowClient) -> bool:
        """Tell the store what it does not have yet, and how the run ended.

        Returns:
            whether everything has arrived, the end too; False also if another process is sending.

        Raises:
            MlflowException, OSError: the store does not answer.
            PrecisError: the run cannot be made, or is to be there and is not.
        """
        with _locked(self.directory) as is_mine:
            if not is_mine:
                return False
            try:
                return self._send(client)
            except BaseException:
                self._run_id = None  # what arrived of it is asked for the next time
                raise

    def _send(self, client: MlflowClient) -> bool:
        head = json.loads((self.directory / "head.json").read_text(encoding="utf-8"))
        end = self._end()  # read before the rest is sent: nothing comes after it
        if self._run_id is None:
            self._run_id = self._find(client, head, is_over=end is not None)
        run_id = self._run_id
        self._send_points(client, run_id, METRICS)
        self._send_points(client, run_id, SCORES)
        tags = self.directory / "tags.json"
        if tags.exists():
            for name, value in json.loads(tags.read_text(encoding="utf-8")).items():
                client.set_tag(run_id, name, value)
        for path in self._files():
            folder = path.parent.relative_to(self.directory / "files").as_posix()
            client.log_artifact(run_id, str(path), None if folder == "." else folder)
            path.unlink(missing_ok=True)
        if end is None:
            return False
        if head["run"] is not None:
            client.set_terminated(run_id, end["status"], end["milliseconds"])
        (self.directory / "arrived").touch()
        return True

    def _find(self, client: MlflowClient, head: Mapping[str, Any], *, is_over: bool) -> str:
        """The run that this is for, made if it is not there; and what of its curves the store has."""
        note, run, values = self.directory / "run_id", None, head["run"]
        if note.exists():
            run = _get_run(client, note.read_text(encoding="ascii"))
        is_made = run is not None
        if run is None:
            run = find_run(client, head["fingerprint"])
            if run is not None and values is not None and run.info.status == "FINISHED":
                run = None  # of an earlier training of the same
        self._known.clear()
        self._latest.clear()
        self._sent_bytes = dict.fromkeys(self._sent_bytes, 0)
        if run is not None:
            self._latest.update(run.data.metrics)
        if values is None:
            if run is None:
                raise PrecisError("MLflow has no run of the model (it was trained with another store)")
            return str(run.info.run_id)
        if run is None:
            run = client.create_run(
                experiment_id(client, values["experiment"]),
                run_name=values["name"],
                tags={FINGERPRINT_TAG: head["fingerprint"], **values["tags"]},
            )
        run_id = str(run.info.run_id)
        if not is_made:
            _describe(client, run_id, values)
            with atomic_path(note) as temporary:
                temporary.write_text(run_id, encoding="ascii")
        if not is_over and run.info.status != "RUNNING":
            client.set_terminated(run_id, "RUNNING")
        for name in run.data.metrics:
            self._known.update((name, point.step) for point in client.get_metric_history(run_id, name))
        return run_id

    def _send_points(self, client: MlflowClient, run_id: str, file: str) -> None:
        points, end = read_points(self.directory / file, self._sent_bytes[file])
        if file == METRICS:  # an update that was done again after a kill has one point
            last = {(name, step): point for point in points for name, _, _, step in [point]}
            points = [point for key, point in last.items() if key not in self._known]
        else:  # a stage that was done again after a kill says the same
            points = [point for point in points if self._latest.get(point[0]) != point[1]]
        for start in range(0, len(points), _METRICS_PER_CALL):
            part = points[start : start + _METRICS_PER_CALL]
            client.log_batch(run_id, metrics=[_metric(point) for point in part])
            self._known.update((name, step) for name, _, _, step in part)
        self._sent_bytes[file] = end

    def _files(self) -> list[Path]:
        found = (self.directory / "files").rglob("*")
        return sorted(path for path in found if path.is_file() and not path.name.endswith(".part"))

    def _end(self) -> dict[str, Any] | None:
        path = self.directory / "end.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        with atomic_path(self.directory / name) as temporary:
            temporary.write_text(json.dumps(values), encoding="utf-8")


def read_points(path: Path, start: int = 0) -> tuple[list[Point], int]:
    """The points of a file after so many bytes, and at which byte the last whole line ends.

    A line that a kill cut short is left out: the training, going on from before it, writes it again.
    """
    points: list[Point] = []
    if not path.exists():
        return points, start
    with path.open("rb") as file:
        file.seek(start)
        whole, newline, _ = file.read().rpartition(b"\n")
    for line in whole.split(b"\n"):
        with suppress(ValueError):
            name, value, milliseconds, step = json.loads(line)
            points.append((name, value, milliseconds, step))
    return points, start + len(whole) + len(newline)


def waiting(root: Path) -> list[Parcel]:
    """Parcels that nobody is at work on, those of trainings first: the others need their runs."""
    trainings = [
        head.parent
        for head in sorted((root / TRAININGS).glob("*/*/head.json"))
        if not _is_held(head.parents[1] / "lock")
    ]
    others = [
        head.parent
        for head in sorted((root / WAITING).glob("*/head.json"))
        if not head.parent.name.startswith(".")  # in the middle of being written
    ]
    parcels = [Parcel(directory) for directory in [*trainings, *others]]
    return [parcel for parcel in parcels if not parcel.has_arrived]


def deliver(root: Path) -> None:
    """Send what waits; a training that was killed is called so, and keeps its checkpoints.

    Raises:
        MlflowException, OSError: the store does not answer; the rest waits.
    """
    parcels = waiting(root)
    client = configure(root) if parcels else None
    for parcel in parcels:
        assert client is not None
        if parcel.status is None:
            parcel.end("KILLED")
        try:
            has_arrived = parcel.send(client)
        except PrecisError as error:
            if parcel.directory.parent.name != WAITING.name:
                raise
            log.warning("%s: %s stay only in reports/", error, parcel.contents)
            has_arrived = True
        if has_arrived and parcel.status == "FINISHED":
            parcel.remove()


def deliver_within(root: Path, seconds: float = LONGEST_WAIT) -> bool:
    """Send what waits, but do not wait longer for the store than this; whether all has arrived."""
    if not waiting(root):
        return True
    configure(root)  # takes long the first time, and asks no server
    courier = Courier(lambda: deliver(root))
    if courier.close(seconds):
        return True
    left = waiting(root)
    log.warning(
        "MLflow did not answer within %g s (%s): %s wait in %s and are sent by the next run, or by "
        "`precis doctor --repair`",
        seconds,
        courier.reason,
        " and ".join(parcel.contents for parcel in left),
        ", ".join(str(parcel.directory) for parcel in left),
    )
    return False


class Courier:
    """A thread that sends, so that nobody else waits for the store.

    Args:
        send: sends what there is; it raises if the store does not answer, and is called again some seconds later.
        say: told of the first error, in a line, and of its end by None.
    """

    def __init__(
        self, send: Callable[[], object], say: Callable[[str | None], None] = lambda reason: None
    ) -> None:
        self.error: Exception | None = None
        self._send = send
        self._say = say
        self._called, self._tried, self._is_closing = threading.Event(), threading.Event(), threading.Event()
        self._called.set()
        # a store that hangs must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    @property
    def reason(self) -> str:
        """Why not everything is sent, in a line."""
        return str(self.error).split("\n", 1)[0] if self.error is not None else "it is slow"

    def call(self) -> None:
        """There is something to send."""
        self._called.set()

    def wait(self, seconds: float) -> None:
        """Wait for the first answer of the store, but no longer."""
        self._tried.wait(seconds)

    def close(self, seconds: float) -> bool:
        """Have everything sent, if that takes no longer; whether it was."""
        self._is_closing.set()
        self._called.set()
        self._thread.join(seconds)
        return not self._thread.is_alive() and self.error is None

    def _run(self) -> None:
        from mlflow.exceptions import MlflowException

        while True:
            self._called.wait()
            is_last = self._is_closing.is_set()
            self._called.clear()
            before = self.error
            try:
                self._send()
                self.error = None
            except (MlflowException, OSError, PrecisError) as error:
                self.error = error
            if (before is None) != (self.error is None):
                self._say(self.reason if self.error is not None else None)
            self._tried.set()
            if is_last:
                return
            if self.error is not None:
                self._is_closing.wait(_RETRY_SECONDS)
                self._called.set()


def _describe(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    """Give a run its parameters and data; doing so twice changes nothing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    params = [Param(name, value) for name, value in values["params"].items()]
    for start in range(0, len(params), _PARAMS_PER_CALL):
        client.log_batch(run_id, params=params[start : start + _PARAMS_PER_CALL])
    datasets = [
        DatasetInput(
            Dataset(
                name=Path(dataset["path"]).name,
                digest=dataset["digest"],
                source_type="local",
                source=json.dumps({"path": dataset["path"]}),
                profile=json.dumps({"num_rows": dataset["num_rows"]}),
            ),
            tags=[InputTag("mlflow.data.context", dataset["context"])],
        )
        for dataset in values["datasets"]
    ]
    if datasets:
        client.log_inputs(run_id, datasets=datasets)


def _get_run(client: MlflowClient, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _metric(point: Point) -> Metric:
    from mlflow.entities import Metric

    return Metric(*point)


@contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    with (directory / "sending").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def main() -> int:
    """Send what waits in this folder; exit code 0 if all has arrived."""
    log_to_stderr()
    return 0 if deliver_within(Path.cwd()) else 1


if __name__ == "__main__":
    sys.exit(main())
