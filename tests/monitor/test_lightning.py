"""The monitor as a callback of Lightning itself."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mcdrop import InputError, Monitor
from mcdrop.layers import Dropout

# what Lightning and torch say to each other of workers, devices and deprecations
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

lightning = pytest.importorskip("pytorch_lightning")

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
ROWS = DataLoader(TensorDataset(X, Y), 16)


class Watched(Monitor, lightning.Callback):
    """As docs/training.md makes it, with the gap of each validation."""

    def on_validation_epoch_end(self, trainer, pl_module):
        super().on_validation_epoch_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self.record(trainer.current_epoch, probs=pl_module(X).softmax(1), targets=Y)


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), Dropout(0.3), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch, index):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def watched() -> Watched:
    return Watched(console=Console(file=io.StringIO(), color_system=None))


def trainer(monitor: Monitor, folder: Path, epochs: int, **arguments):
    return lightning.Trainer(
        max_epochs=epochs,
        callbacks=[monitor],
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )


def test_epochs_have_losses_rates_and_the_gap_of_their_validation(tmp_path: Path) -> None:
    monitor = watched()
    trainer(monitor, tmp_path, 3).fit(Module(), ROWS, ROWS)
    assert [each.epoch for each in monitor.history.epochs] == [0, 1, 2]
    for each in monitor.history.epochs:
        assert each.values.keys() == {"train_loss", "val_loss"}
        assert each.rates == {"net.2": 0.3}
        assert {"gap", "ece", "confidence", "accuracy"} == each.calibration.keys()
    losses = [each.values["val_loss"] for each in monitor.history.epochs]
    assert losses[-1] < losses[0]
    lines = monitor._screen.console.file.getvalue().splitlines()
    # a line with the gap, and again with what the epoch ended with
    assert [line.split("  ")[0] for line in lines[1::2]] == ["epoch 0", "epoch 1", "epoch 2"]
    # the checkpoint that Lightning wrote has what was recorded up to then, and goes on from there
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    again = watched()
    trainer(again, tmp_path / "again", 5).fit(Module(), ROWS, ROWS, ckpt_path=checkpoint)
    assert [each.epoch for each in again.history.epochs] == [0, 1, 2, 3, 4]
    kept = [each.values["val_loss"] for each in again.history.epochs[:2]]
    assert kept == pytest.approx(losses[:2])


def test_an_epoch_without_validation_has_none(tmp_path: Path) -> None:
    monitor = watched()
    trainer(monitor, tmp_path, 4, check_val_every_n_epoch=2).fit(Module(), ROWS, ROWS)
    assert ["val_loss" in each.values for each in monitor.history.epochs] == [
        False, True, False, True,
    ]  # fmt: skip
    assert [bool(each.calibration) for each in monitor.history.epochs] == [False, True] * 2


def test_a_training_that_breaks_leaves_what_was_recorded(tmp_path: Path) -> None:
    class Breaks(Module):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                raise InputError("the training broke")

    monitor = watched()
    with pytest.raises(InputError, match="the training broke"):
        trainer(monitor, tmp_path, 3).fit(Breaks(), ROWS, ROWS)
    assert [each.epoch for each in monitor.history.epochs] == [0]
    assert monitor.save(tmp_path / "curves.json").exists()
