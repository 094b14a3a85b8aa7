"""Six faults of the parts that precis is built of: each is shown on the part alone, and then not to be there in precis.

The fifth, sets of versions that install and do not run, is kept out by constraints.txt: the part alone cannot be
shown without installing another set. Where it would show, a schedule that never fires, is
tests/pipeline/test_day_in_a_minute.py.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import small_training
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from safetensors.torch import load_file, save_file

import pipeline
from precis.batches.bucket_sampler import TrainingSampler
from precis.errors import PrecisError
from precis.training.checkpoints import AtomicCheckpointIO, newest_whole_checkpoint

pytestmark = pytest.mark.timeout(600)

STOCK_TRAINING = """
import sys, time
import pytorch_lightning as pl, torch

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, batch_idx):
        open(sys.argv[1] + "/started", "w").close()
        time.sleep(0.01)
        return self.layer(batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

loader = torch.utils.data.DataLoader(torch.ones(100_000, 1))
pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu").fit(Module(), loader)
"""


@pytest.mark.faults
def test_1_a_training_that_got_sigterm_does_not_end_as_if_it_were_done(tmp_path):
    stock = subprocess.Popen([sys.executable, "-c", STOCK_TRAINING, str(tmp_path)], stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "started").exists, stock)
    stock.terminate()
    assert stock.wait(60) == 0, "Lightning alone: exit code 0"

    for number, exit_code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        folder = tmp_path / str(exit_code)
        folder.mkdir()
        ours = subprocess.Popen(
            [
                sys.executable,
                small_training.__file__,
                str(folder),
                '{"max_epochs": 100000, "patience": 100000}',
            ],
            env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"},
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda folder=folder: list((folder / "work").glob("*.ckpt")), ours)
        ours.send_signal(number)
        assert ours.wait(60) == exit_code


def wait_for(condition, process):
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)


def torn_by_kills(checkpoint_io, path, kills):
    """How often kill -9 while saving leaves, under the checkpoint's name, what cannot be loaded.

    The kill comes at the worst moment that there is, when the file is not whole, and otherwise at any.
    """
    generator, torn = np.random.default_rng(3), 0
    big = {"state_dict": {"weight": torch.arange(5_000_000, dtype=torch.float32)}}
    checkpoint_io.save_checkpoint(big, path)
    whole = path.stat().st_size
    for _ in range(kills):
        process = os.fork()
        if process == 0:
            while True:
                checkpoint_io.save_checkpoint(big, path)
        end = time.monotonic() + generator.uniform(0.2, 0.6)
        while path.stat().st_size == whole and time.monotonic() < end:
            pass
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        try:
            found = torch.load(path, weights_only=True)
            torn += not torch.equal(found["state_dict"]["weight"], big["state_dict"]["weight"])
        except Exception:
            torn += 1
    return torn


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == Path("/tmp").stat().st_dev,
    reason="/dev/shm is no other file system here",
)
def test_2_no_kill_tears_a_checkpoint_also_if_temporary_files_are_on_another_file_system(
    tmp_path, monkeypatch
):
    import tempfile

    kills = int(os.environ.get("CHECKPOINT_KILLS", "10"))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        monkeypatch.setenv("TMPDIR", other)
        monkeypatch.setattr(tempfile, "tempdir", None)
        stock = torn_by_kills(TorchCheckpointIO(), tmp_path / "stock.ckpt", kills)
        ours = torn_by_kills(AtomicCheckpointIO(), tmp_path / "00000001.ckpt", kills)
    print(f"torn of {kills}: {stock} of Lightning's, {ours} of precis'")
    assert stock > 0
    assert ours == 0
    assert newest_whole_checkpoint(tmp_path)[0] == tmp_path / "00000001.ckpt", "its digest is right, too"


@pytest.mark.parametrize("left", ["", "schema: '2.0'\nstages:\n  download:\n    cm"])
def test_3_a_kill_in_the_middle_of_dvcs_writing_needs_no_person(make_repository, left):
    root = make_repository("stages:\n  download:\n    cmd: echo rows > raw.txt\n    outs: [raw.txt]\n")
    assert repro(root, pipeline.__file__).returncode == 0
    (root / "dvc.lock").write_text(left)
    (root / ".dvc/tmp/rwlock").write_text('{"raw.txt": {"wri')
    assert repro(root, "-m", "dvc", "repro").returncode != 0, (
        "DVC alone: an error until somebody edits its files"
    )
    assert repro(root, pipeline.__file__).returncode == 0


def repro(root, *arguments):
    return subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True)


def test_4_a_flipped_bit_is_found(tmp_path):
    """In weights and in a checkpoint; for a stage's inputs see test_inputs.py, for a packaged model tests/registry."""
    whole = {"weight": torch.arange(1_000, dtype=torch.float32)}
    save_file(whole, tmp_path / "stock.safetensors")
    flip(tmp_path / "stock.safetensors", place=-100)
    assert not torch.equal(load_file(tmp_path / "stock.safetensors")["weight"], whole["weight"]), (
        "safetensors alone: other weights, no word of it"
    )
    path = tmp_path / "00000001.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": whole}, path)
    content = path.read_bytes()
    start = content.index(whole["weight"].numpy().tobytes())
    flip(path, place=start + 1_002)
    silently = torch.load(path, weights_only=True)["state_dict"]["weight"]
    assert not torch.equal(silently, whole["weight"]), "torch alone: the same"
    assert newest_whole_checkpoint(tmp_path) == (None, [path])


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


class Rows(pl.LightningModule):
    """Notes which rows it was shown; stops in the middle of an epoch if asked to."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.layer, self.stop_at, self.shown = torch.nn.Linear(1, 1), stop_at, []

    def training_step(self, batch, batch_idx):
        self.shown += [int(row) for row in batch[:, 0]]
        if batch_idx == self.stop_at:
            self.trainer.save_checkpoint(self.trainer.default_root_dir + "/stopped.ckpt")
            self.trainer.should_stop = True
        return self.layer(batch).sum() * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_6_an_epoch_that_was_interrupted_sees_every_row_once(tmp_path):
    def fit(module, checkpoint=None):
        loader = torch.utils.data.DataLoader(
            torch.arange(200, dtype=torch.float32)[:, None], batch_size=10, shuffle=True
        )
        pl.seed_everything(1, verbose=False)
        trainer = pl.Trainer(
            max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
            enable_model_summary=False, default_root_dir=str(tmp_path), min_steps=None,
        )  # fmt: skip
        trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
        return module.shown

    before = fit(Rows(stop_at=8))
    after = fit(Rows(), str(tmp_path / "stopped.ckpt"))
    assert len(set(before) | set(after)) < 200, "Lightning alone: some rows are never seen"

    lengths = np.random.default_rng(1).integers(3, 30, size=200)

    def sampler():
        return TrainingSampler(lengths, lengths, batch_size=10, first_batch=0, num_batches=20, seed=1)

    batches = iter(sampler())
    rows = [row for _ in range(9) for row in next(batches)]
    resumed = sampler()
    resumed.start_batch = 9
    rows += [row for batch in resumed for row in batch]
    assert sorted(rows) == list(range(200))


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """Nor moments: with a NaN in them the next update spoils the weights."""
    good = {"state_dict": {"weight": torch.ones(2)}, "optimizer_states": []}
    path = tmp_path / "00000001.ckpt"
    AtomicCheckpointIO().save_checkpoint(good, path)
    before = path.read_bytes()
    bad = torch.tensor([1.0, float("nan")])
    moments = {"state": {0: {"exp_avg": bad, "step": torch.tensor(3.0)}}, "param_groups": []}
    for checkpoint in ({"state_dict": {"weight": bad}}, {**good, "optimizer_states": [moments]}):
        with pytest.raises(PrecisError, match="NaN or infinity"):
            AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path, path.with_name("00000001.ckpt.sha256")]
