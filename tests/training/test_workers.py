"""Several workers train the model that one trains: the same losses, the same stops, one set of files."""

import json
import math
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import small_training
import torch
from test_resume import SMALL_TRAINING, bytes_of_all, kill_oneself_at, points, start, wait_for_update

from precis.batches.bucket_sampler import LengthSampler, TrainingSampler, WorkerSampler
from precis.models.pointer_generator import PointerGenerator
from precis.training.placement import joined
from precis.training.system import SummarizationSystem
from precis.training.workers import telling_of_lost_workers

EXACT = {"dropout": 0.0, "max_epochs": 9, "log_every_updates": 1, "patience": 100}  # 108 updates


def as_workers(folder, number=2, prepare=lambda worker: None, **settings):
    """Train as so many processes, without the seconds that starting Python takes; give their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for worker in range(number):
        process = os.fork()
        if process == 0:
            code = 1
            try:
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                os.environ |= {"LOCAL_RANK": str(worker), "NODE_RANK": "0", "WORLD_SIZE": str(number)}
                prepare(worker)
                with joined(number, 1, "ddp"), telling_of_lost_workers():
                    small_training.run(folder, devices=number, strategy="ddp", **settings)
                code = 0
            except SystemExit as error:
                code = error.code
            except BaseException as error:
                os.write(2, f"worker {worker}: {type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(code)
        processes.append(process)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that makes a folder with a store of its own."""

    def make(name):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / name / 'mlflow.db'}")
        return tmp_path / name

    return make


def assert_same_curves(ours, theirs, updates=100):
    curves = points(ours), points(theirs)
    assert curves[0].keys() == curves[1].keys()
    losses = {key for key in curves[0] if key[0] in ("train_loss", "validation_loss")}
    assert {("train_loss", update) for update in range(1, updates + 1)} <= losses
    for key in losses:
        assert curves[0][key] == pytest.approx(curves[1][key], abs=1e-4), key


@pytest.mark.slow
def test_several_workers_have_the_losses_of_one(folder):
    """The last batch of an epoch has two rows here, and with three workers one of them has none."""
    one = folder("one")
    small_training.run(one, **EXACT)
    for number in (2, 3):
        several = folder(str(number))
        assert as_workers(several, number, **EXACT) == [0] * number
        assert_same_curves(several, one)


def test_workers_that_were_killed_go_on_to_the_same_bytes(folder):
    settings = {
        "max_epochs": 2,
        "checkpoint_every_updates": 4,
    }  # with dropout, of which each worker has its own
    undisturbed, disturbed = folder("undisturbed"), folder("disturbed")
    assert as_workers(undisturbed, **settings) == [0, 0]

    def kill_the_second(worker):
        if worker == 1:
            SummarizationSystem.on_train_batch_start = kill_oneself_at(15)

    first, second = as_workers(disturbed, prepare=kill_the_second, **settings)
    assert second == -signal.SIGKILL and first == 1, "the first one noticed and gave up"
    assert [int(path.stem) for path in (disturbed / "work").glob("*.ckpt")]
    assert as_workers(disturbed, **settings) == [0, 0]
    assert bytes_of_all(disturbed) == bytes_of_all(undisturbed)
    assert points(disturbed) == points(undisturbed)


def test_each_worker_draws_its_own_dropout(folder, capfd):
    """With the same draws for both, their states before an update would be the same."""

    def tell_state(worker):
        def on_train_batch_start(system, *_):
            os.write(1, f"state {hash(bytes(torch.get_rng_state().numpy()))}\n".encode())

        SummarizationSystem.on_train_batch_start = on_train_batch_start

    assert as_workers(folder("here"), prepare=tell_state, max_epochs=1, validations_per_epoch=1) == [0, 0]
    states = [line.split()[1] for line in capfd.readouterr().out.splitlines() if line.startswith("state")]
    assert len(states) == len(set(states)) == 2 * 12


def test_a_part_that_does_not_fit_into_memory_is_done_in_two_halves(folder):
    whole = PointerGenerator.training_loss
    settings = {**EXACT, "max_epochs": 1, "validations_per_epoch": 1}
    enough, little = folder("enough"), folder("little")
    small_training.run(enough, **settings)

    def small_memory(worker):
        def training_loss(self, source, target, *weight):
            if self.training and len(source.ids) > 3:
                torch.empty(10**15)  # raises what torch raises
            return whole(self, source, target, *weight)

        if worker == 1:
            PointerGenerator.training_loss = training_loss

    assert as_workers(little, prepare=small_memory, **settings) == [0, 0]
    assert_same_curves(little, enough, updates=12)


def test_workers_skip_the_same_batch_and_name_its_rows(folder, capfd):
    whole = PointerGenerator.training_loss

    def spoil(worker):
        calls = iter(range(1_000))

        def training_loss(self, source, target, *weight):
            losses = whole(self, source, target, *weight)
            if (
                self.training and worker == 1 and next(calls) in (3, 4)
            ):  # the batch, and its first row by itself
                object.__setattr__(losses, "total", losses.total * math.nan)
            return losses

        PointerGenerator.training_loss = training_loss

    here = folder("here")
    settings = {"max_epochs": 1, "validations_per_epoch": 1, "max_skipped_batches": 1}
    assert as_workers(here, prepare=spoil, **settings) == [0, 0]
    assert {path.name for path in (here / "work").glob("non_finite_*")} == {
        "non_finite_00000003.safetensors",
        "non_finite_00000003_1.safetensors",
    }


def test_a_signal_to_any_worker_stops_all_after_the_same_update(folder):
    """The second worker gets it; the first one writes the checkpoint and says how it ended."""
    settings = {"max_epochs": 2, "checkpoint_every_updates": 100, "checkpoint_every_minutes": 0.0}
    here = folder("here")

    def signal_the_second(worker):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

        def on_train_batch_start(system, *_):
            if worker == 1 and system.global_step == 7:
                os.kill(os.getpid(), signal.SIGTERM)

        SummarizationSystem.on_train_batch_start = on_train_batch_start

    assert as_workers(here, prepare=signal_the_second, **settings) == [143, 0]
    assert max(int(path.stem) for path in (here / "work").glob("*.ckpt")) == 8
    assert as_workers(here, **settings) == [0, 0]


def test_lightning_starts_the_second_worker_and_has_the_losses_of_one(folder):
    one, two = folder("one"), folder("two")
    small_training.run(one, **EXACT)
    done = start(two, json.dumps({**EXACT, "devices": 2}))
    _, errors = done.communicate(timeout=280)
    assert done.returncode == 0, errors
    assert "Traceback" not in errors and errors.count("update 108 of 108") == 1, errors
    assert_same_curves(two, one)


@pytest.mark.slow
def test_two_workers_have_a_coverage_phase_together(folder):
    here = folder("here")
    assert as_workers(here, coverage=True, max_epochs=2) == [0, 0]
    options = json.loads((here / "work/coverage/best/model.json").read_text())["options"]
    assert options["coverage_on"] is True


@pytest.mark.faults
def test_a_killed_second_worker_ends_the_training_at_once_and_the_next_one_goes_on(folder, request):
    here = folder("here")
    settings = json.dumps({"devices": 2, "max_epochs": 40, "patience": 1_000})
    first = start(here, settings)
    request.addfinalizer(first.kill)
    wait_for_update(here, 5, first)
    (second,) = subprocess.run(
        ["pgrep", "-P", str(first.pid), "-f", SMALL_TRAINING.name], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(second), signal.SIGKILL)
    _, errors = first.communicate(timeout=200)
    assert first.returncode == 75 and "a worker of this training was lost" in errors, errors
    assert "Traceback" not in errors

    again = start(here, settings)
    _, errors = again.communicate(timeout=280)
    assert again.returncode == 0 and "going on from update" in errors, errors


@pytest.mark.faults
def test_torchrun_starts_lost_workers_again(folder, request):
    here = folder("here")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    settings = json.dumps({"devices": 2, "max_epochs": 40, "patience": 1_000})
    agent = subprocess.Popen(
        [*torchrun, "--standalone", SMALL_TRAINING, here, settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    request.addfinalizer(agent.terminate)  # it ends its workers
    wait_for_update(here, 5, agent)
    children = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    _, errors = agent.communicate(timeout=280)
    assert agent.returncode == 0 and "going on from update" in errors, errors
    assert (here / "work/best/model.safetensors").exists()


@pytest.mark.parametrize("num_workers", [2, 3, 4, 8])
def test_workers_share_each_batch_and_its_padding_evenly(num_workers):
    lengths = np.random.default_rng(0).gamma(3.0, 40.0, size=5_003).astype(np.int64) + 1
    whole = TrainingSampler(lengths, lengths // 10, batch_size=32, first_batch=0, num_batches=200, seed=3)
    shares = [
        list(WorkerSampler(whole, worker=worker, num_workers=num_workers)) for worker in range(num_workers)
    ]
    most = mean = 0
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(row for part in parts for row in part) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        padded = [len(part) * max((lengths[row] for row in part), default=0) for part in parts]
        most += max(padded)
        mean += sum(padded) / num_workers
    assert most < 1.06 * mean, "an update takes as long as its largest part"


def test_validation_rows_are_shared_too():
    batches = LengthSampler(np.array([3, 9, 1, 7, 5]), np.zeros(5, dtype=np.int64), batch_size=4)
    shares = [list(WorkerSampler(batches, worker=worker, num_workers=2)) for worker in (0, 1)]
    assert shares == [[[1, 4], [2]], [[3, 0], []]]
