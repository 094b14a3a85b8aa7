"""kill -9 at random moments of every stage: `python tests/faults/soak.py --kills 50 [--seed N]`.

A small corpus goes through the pipeline undisturbed once. Then it goes through it again and again, from nothing,
killed in every stage: all its processes at once, or the wrapper, DVC or the stage alone. Each time the next run is
started as a person would, without any flag and without mending anything. Every passage must end in the bytes of the
undisturbed one, every file that DVC tracks, the model among them, and in the same metric history in MLflow; no process
may be left over after a kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
from project import Project

from precis.registry.dvc_lock import md5_of, read_lock

STAGES = (
    "download",
    "prepare",
    "vocabulary",
    "encode",
    "train",
    "evaluate",
    "baselines",
    "report",
    "register",
)
AGAIN = ("download", "prepare", "vocabulary", "encode", "train", "train")  # for more kills in a passage
VICTIMS = ("all", "all", "wrapper", "dvc", "stage")
ORPHAN_SECONDS = 20.0  # a training that is told to end writes its checkpoint first
LONGEST = 900.0


@dataclass
class Soak:
    """One project that is killed again and again.

    Args:
        folder: for the project; its name shows in the command lines of all its processes.
        seed: of the moments and victims.
    """

    folder: Path
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    orphans: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.project = Project(self.folder / "tickets", num_rows=200)
        self.project.keep_only("pointer")
        self.project.set_params({"train": {"checkpoint_every_updates": 5}})
        self.log = self.folder / "log.txt"
        self.reference: dict[str, Any] = {}

    def run_undisturbed(self) -> None:
        """The reference, and how long each stage takes."""
        process = self._start()
        begun: dict[str, float] = {}
        while process.poll() is None:
            stage = self._stage(process)
            if stage is not None:
                begun.setdefault(stage[0], time.monotonic())
                self.seconds[stage[0]] = time.monotonic() - begun[stage[0]]
            time.sleep(0.1)
        assert process.returncode == 0, self._last_words()
        self.reference = self._results()

    def run_killed(self, stages: list[str]) -> None:
        """The pipeline from nothing, with a kill in each of these stages; raises if it ends otherwise."""
        self._reset()
        for stage in stages:
            if not self._kill_in(stage):
                break
        process = self._start()
        process.wait(LONGEST)
        assert process.returncode == 0, f"a person would be needed:\n{self._last_words()}"
        found = self._results()
        for what, expected in self.reference.items():
            assert found[what] == expected, f"{what} differs:\n{found[what]}\n{expected}"

    def _kill_in(self, stage: str) -> bool:
        process = self._start()
        end = time.monotonic() + LONGEST
        # a later one if this was done before it could be killed
        while (found := self._stage(process)) is None or STAGES.index(found[0]) < STAGES.index(stage):
            if process.poll() is not None:
                return self._over(process)
            assert time.monotonic() < end, self._last_words()
            time.sleep(0.02)
        stage = found[0]
        time.sleep(self.random.uniform(0.0, 1.1) * self.seconds[stage])
        if process.poll() is not None:
            return self._over(process)
        victim = self.random.choice(VICTIMS)
        for one in self._victims(process, victim):
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.kills[stage] += 1
        process.wait(60)
        self._look_for_orphans(f"{victim} in {stage}")
        return True

    def _over(self, process: subprocess.Popen[bytes]) -> bool:
        """The whole pipeline was faster than the kill."""
        assert process.returncode == 0, f"a person would be needed:\n{self._last_words()}"
        return False

    def _victims(self, process: subprocess.Popen[bytes], victim: str) -> list[int]:
        below = [one.pid for one in psutil.Process(process.pid).children(recursive=True)]
        stage = self._stage(process)
        if victim == "stage" and stage is not None:
            return [stage[1]]
        if victim == "dvc" and below:
            return below[:1]
        return [process.pid] if victim == "wrapper" else [process.pid, *below]

    def _look_for_orphans(self, after: str) -> None:
        end = time.monotonic() + ORPHAN_SECONDS
        while left := self._processes():
            if time.monotonic() > end:
                self.orphans += len(left)
                print(f"orphans after killing {after}: {left}", flush=True)
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def _processes(self) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                here = process.cwd().startswith(str(self.folder))
                if here and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found.append(process.pid)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def _stage(self, process: subprocess.Popen[bytes]) -> tuple[str, int] | None:
        """The stage that is at work, and its process."""
        try:
            for one in psutil.Process(process.pid).children(recursive=True):
                words = one.cmdline()
                if "-m" in words and "sh" not in Path(words[0]).name:
                    module = words[words.index("-m") + 1]
                    if module.startswith("precis.stages."):
                        return module.removeprefix("precis.stages."), one.pid
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "flows/pipeline.py"],
                cwd=self.project.folder,
                env=self.project.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _reset(self) -> None:
        root = self.project.folder
        for name in (".work", "mlartifacts", ".dvc/cache", ".dvc/tmp"):
            shutil.rmtree(root / name, ignore_errors=True)
        for path in [root / "dvc.lock", *root.glob("mlflow.db*")]:
            path.unlink(missing_ok=True)
        for out in self.reference["files"]:
            path = root / out
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _results(self) -> dict[str, Any]:
        """The MD5 of all that the stages wrote, computed here and by DVC, and the metric history of the one run."""
        from mlflow import MlflowClient

        root = self.project.folder
        outs = {out: md5 for stage in read_lock(root).values() for out, md5 in stage.outs.items()}
        client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
        (run,) = client.search_runs([client.get_experiment_by_name("precis").experiment_id])
        history = [
            (point.key, point.step, point.value)
            for name in run.data.metrics
            if name != "minutes"  # of wall time
            for point in client.get_metric_history(run.info.run_id, name)
        ]
        return {
            "status": run.info.status,
            "metric history": sorted(history),
            "dvc.lock": outs,
            "files": {out: md5_of(root / out) for out in outs},
            "left over": sorted(str(path) for folder in ("data", "models", "reports", ".work/tracking")
                                for path in (root / folder).rglob("*.part")),
        }  # fmt: skip

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def soak(kills: int, seed: int, folder: Path) -> int:
    """Kill so often; gives the exit code."""
    print(f"soak: {kills} kills, seed {seed}, in {folder}", flush=True)
    work = Soak(folder, seed)
    work.run_undisturbed()
    model, points = work.reference["dvc.lock"]["models/pointer"], len(work.reference["metric history"])
    print(f"reference: model {model}, {points} points; {json.dumps(work.seconds)}", flush=True)
    passages = 0
    while (left := kills - work.kills.total()) > 0:
        stages = [*STAGES, *AGAIN]
        if left < len(stages):
            again = work.random.sample(AGAIN, max(0, left - len(STAGES)))
            stages = [*work.random.sample(STAGES, min(left, len(STAGES))), *again]
        stages.sort(key=STAGES.index)
        work.run_killed(stages)
        passages += 1
        print(f"passage {passages}: {work.kills.total()} kills, the same bytes and history", flush=True)
    print(
        f"{work.kills.total()} kills in {passages} passages ({json.dumps(work.kills)}): all ended in model {model} and "
        f"the same {points} points; {work.orphans} orphans",
        flush=True,
    )
    return 1 if work.orphans else 0


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder to work in, which stays")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        return soak(arguments.kills, arguments.seed, arguments.keep.resolve())
    with tempfile.TemporaryDirectory(prefix="precis-soak-") as folder:
        return soak(arguments.kills, arguments.seed, Path(folder).resolve())


if __name__ == "__main__":
    sys.exit(main())
