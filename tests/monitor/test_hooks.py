"""The monitor as a callback, of a stand-in that calls hooks in the order Lightning documents."""

import io

import pytest
import torch
from rich.console import Console

from mcdrop import Monitor
from tests.monitor.trainer import MODULE, Base, Trainer


class Watched(Monitor, Base):
    """As a user makes it, with `lightning.Callback` in place of `Base`."""


def watched(**arguments) -> Watched:
    return Watched(console=Console(file=io.StringIO(), color_system=None), **arguments)


def shown(monitor: Monitor) -> list[str]:
    return monitor._screen.console.file.getvalue().splitlines()


def train(epoch):
    loss = torch.tensor(1.0 / (epoch + 1))
    return {"train_loss": loss, "train_loss_epoch": loss, "train_loss_step": loss + 9}


def validation(epoch):
    return {"val_loss": torch.tensor(2.0 / (epoch + 1)), "val/f1": 0.5}


def test_every_epoch_is_recorded_once_with_both_sides():
    monitor = watched()
    Trainer(monitor, train=train, validation=validation).fit(3)
    assert [each.epoch for each in monitor.history.epochs] == [0, 1, 2]
    for each in monitor.history.epochs:
        assert each.values == {
            "train_loss": pytest.approx(1 / (each.epoch + 1)),
            "val_loss": pytest.approx(2 / (each.epoch + 1)),
            "val/f1": 0.5,
        }
        assert each.rates == {"1": 0.3}
    assert monitor.model is MODULE
    assert monitor.history.best.epoch == 2
    assert [line.split("  ")[0] for line in shown(monitor)] == ["epoch 0", "epoch 1", "epoch 2"]


def test_metrics_of_an_earlier_validation_are_not_recorded_again():
    monitor = watched()
    Trainer(monitor, train=train, validation=validation, every=2).fit(4)
    assert ["val_loss" in each.values for each in monitor.history.epochs] == [
        False, True, False, True,
    ]  # fmt: skip


def test_batches_before_the_training_are_no_validation():
    monitor = watched()
    trainer = Trainer(monitor, train=train, validation=validation, every=2, keeps_sanity=True)
    trainer.fit(2)
    assert ["val_loss" in each.values for each in monitor.history.epochs] == [False, True]


def test_validation_outside_of_a_fit_is_no_epoch():
    monitor = watched()
    trainer = Trainer(monitor, train=train, validation=validation, every=10)
    trainer.validate()
    trainer.fit(1)
    assert list(monitor.history.epochs[0].values) == ["train_loss"]


def test_a_training_that_goes_on_from_a_checkpoint():
    first = watched()
    trainer = Trainer(first, train=train, validation=validation)
    trainer.fit(3)
    checkpoint = first.state_dict()
    second = watched()
    second.load_state_dict(checkpoint)
    again = Trainer(second, train=train, validation=validation)
    again.current_epoch = 2  # the checkpoint was older than the crash
    again.fit(5)
    assert [each.epoch for each in second.history.epochs] == [0, 1, 2, 3, 4]


def test_only_the_first_process_shows():
    monitor = watched()
    Trainer(monitor, train=train, validation=validation, is_global_zero=False).fit(2)
    assert len(monitor.history.epochs) == 2
    assert shown(monitor) == []


def test_a_table_is_taken_down_whatever_happens():
    for fails_at in (None, 1):
        screen = Console(file=io.StringIO(), force_terminal=True, color_system=None, _environ={})
        monitor = Watched(console=screen, display="table")
        trainer = Trainer(monitor, train=train, validation=validation, fails_at=fails_at)
        if fails_at is None:
            trainer.fit(2)
        else:
            with pytest.raises(RuntimeError, match="the training broke"):
                trainer.fit(2)
        text = screen.file.getvalue()
        assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
        assert "train loss" in text


class Gapped(Watched):
    """Records the gap of each validation, as the page says to."""

    def on_validation_epoch_end(self, trainer, pl_module):
        super().on_validation_epoch_end(trainer, pl_module)
        if not trainer.sanity_checking:
            probs, targets = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 1])
            self.record(trainer.current_epoch, probs=probs, targets=targets, extra=3.0)


def test_what_is_logged_while_an_epoch_is_validated_stays():
    monitor = Gapped(console=Console(file=io.StringIO(), color_system=None))
    Trainer(monitor, train=train, validation=validation).fit(2)
    for each in monitor.history.epochs:
        assert each.calibration["gap"] == pytest.approx(0.25)
        assert each.values["extra"] == 3.0
        assert {"train_loss", "val_loss"} <= set(each.values)


def test_an_epoch_that_is_trained_again_keeps_nothing_of_the_first_time():
    first = Gapped(console=Console(file=io.StringIO(), color_system=None))
    trainer = Trainer(first, train=train, validation=validation)
    trainer.fit(4)
    second = watched()
    second.load_state_dict(first.state_dict())
    again = Trainer(second, train=train, validation=validation)
    again.current_epoch = 2
    again.fit(3)
    assert [each.epoch for each in second.history.epochs] == [0, 1, 2]
    assert "extra" not in second.history.epochs[2].values
    assert second.history.epochs[2].calibration == {}
