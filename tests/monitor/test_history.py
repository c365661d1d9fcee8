"""Bounded, in order, and the same after it was read back."""

import itertools
import json
import math

import pytest

from mcdrop import InputError
from mcdrop.monitor import Epoch, History
from mcdrop.monitor.history import MOST_NAMES


def recorded(history: History) -> list[int]:
    return [each.epoch for each in history.epochs]


@pytest.mark.parametrize("capacity", [2, 3, 4, 7, 50])
def test_memory_is_bounded_and_curves_keep_their_length(capacity):
    history = History(capacity)
    for epoch in range(1000):
        history.add(Epoch(epoch=epoch, values={"validation_loss": abs(epoch - 333.0)}))
        kept = recorded(history)
        assert len(kept) <= capacity
        assert (kept[0], kept[-1]) == (0, epoch)
        gaps = {b - a for a, b in itertools.pairwise(kept[:-1])}
        assert len(gaps) <= 1  # evenly spaced, but for the last
        assert len(kept) >= min(epoch + 1, capacity // 2 + 1)
    assert (history.best.epoch, history.best.value) == (333, 0.0)  # thinned away, but known


def test_more_of_the_same_epoch_is_added_to_it():
    history = History()
    history.add(Epoch(epoch=1, values={"a": 1.0}, rates={"0": 0.1}, calibration={"gap": 0.2}))
    history.add(Epoch(epoch=1, values={"b": 2.0}, rates={"0": 0.3}))
    (only,) = history.epochs
    assert (only.values, only.rates) == ({"a": 1.0, "b": 2.0}, {"0": 0.3})
    assert only.calibration == {"gap": 0.2}


def test_epochs_come_in_order_or_after_a_rewind():
    history = History()
    for epoch in range(6):
        history.add(Epoch(epoch=epoch, values={"val_loss": 9.0 - epoch, "x": 1 / (epoch + 1)}))
    history.add(Epoch(epoch=6, values={"x": math.nan}))
    with pytest.raises(InputError, match=r"got epoch 3 after 6.*rewind\(3\)"):
        history.add(Epoch(epoch=3))
    assert history.not_finite == {"x": 6}
    history.rewind(3)
    assert recorded(history) == [0, 1, 2]
    assert (history.best.epoch, history.best.value, history.not_finite) == (2, 7.0, {})
    history.add(Epoch(epoch=3))
    history.rewind(0)
    assert (history.epochs, history.best) == ([], None)


def test_thinning_goes_on_after_a_rewind():
    history = History(4)
    for epoch in range(21):
        history.add(Epoch(epoch=epoch))
    assert recorded(history) == [0, 8, 16, 20]
    history.rewind(12)
    for epoch in range(12, 17):
        history.add(Epoch(epoch=epoch))
        assert len(recorded(history)) <= 4
    assert recorded(history)[:2] == [0, 8]


def test_nan_and_infinity_are_kept_noted_and_read_back():
    history = History()
    for epoch, loss in enumerate((1.0, math.nan, math.inf, 0.5, -math.inf)):
        history.add(Epoch(epoch=epoch, values={"validation_loss": loss}))
    assert history.not_finite == {"validation_loss": 1}
    assert history.best.value == 0.5
    text = history.document().model_dump_json()
    losses = [each["values"]["validation_loss"] for each in json.loads(text)["epochs"]]
    assert losses == [1.0, "NaN", "Infinity", 0.5, "-Infinity"]  # strict JSON
    again = History.of(text)
    assert again.document().model_dump_json() == text
    assert math.isnan(again.epochs[1].values["validation_loss"])


@pytest.mark.parametrize("cut", [3, 11, 40])
def test_what_was_read_back_goes_on_in_the_same_way(cut):
    first = History(8)
    for epoch in range(cut):
        first.add(Epoch(epoch=epoch, values={"loss": 1.0}, rates={"0": 0.5}))
    second = History.of(first.document().model_dump())
    for epoch in range(cut, 60):
        first.add(Epoch(epoch=epoch))
        second.add(Epoch(epoch=epoch))
        assert first.document() == second.document()
    assert first.names() == second.names() == ["loss"]


def test_rates_that_stay_are_held_once():
    history = History()
    for epoch in range(3):
        history.add(Epoch(epoch=epoch, rates={"0": 0.1}))
    assert history.epochs[0].rates is history.epochs[2].rates


def test_names_are_bounded_too():
    history = History()
    for epoch in range(MOST_NAMES):
        history.add(Epoch(epoch=epoch, values={f"loss of {epoch}": 1.0}))
    with pytest.raises(InputError, match="the same in every epoch"):
        history.add(Epoch(epoch=MOST_NAMES, values={"one more": 1.0}))
    assert len(history.epochs) == MOST_NAMES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "the document"),
        ("[]", "the document"),
        ("{}", "capacity"),
        ('{"format": "other", "capacity": 2, "seen": 0, "stride": 1}', "format"),
        ('{"capacity": 2, "seen": 0, "stride": 1, "epochs": [{"epoch": 1}]}', "more epochs"),
        (
            '{"capacity": 2, "seen": 2, "stride": 1, "epochs": [{"epoch": 1}, {"epoch": 1}]}',
            "do not follow",
        ),
        (
            '{"capacity": 2, "seen": 1, "stride": 1, "epochs": [{"epoch": 1,"rates": {"a": "b"}}]}',
            r"epochs.0.rates.a",
        ),
    ],
)
def test_what_no_monitor_saved_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        History.of(text)


def test_a_rewind_goes_back_to_a_best_that_was_thinned_away():
    history = History(capacity=4)
    losses = {5: 1.0, 15: 0.5}
    for number in range(20):
        loss = losses.get(number, 10.0 - number / 100)
        history.add(Epoch(epoch=number, values={"validation_loss": loss}))
    assert (history.best.epoch, history.best.value) == (15, 0.5)
    history.rewind(15)
    assert (history.best.epoch, history.best.value) == (5, 1.0)


def test_a_value_that_is_put_right_is_noted_anew():
    history = History()
    history.add(Epoch(epoch=0, values={"validation_loss": 0.7}))
    history.add(Epoch(epoch=1, values={"validation_loss": 0.5, "train_loss": float("nan")}))
    history.add(Epoch(epoch=1, values={"validation_loss": 0.9, "train_loss": 0.1}))
    assert (history.best.epoch, history.best.value) == (0, 0.7)
    assert history.not_finite == {}


def test_losses_of_two_names_do_not_compete():
    history = History()
    history.add(Epoch(epoch=0, values={"validation_loss": 0.7}))
    history.add(Epoch(epoch=1, values={"validation_loss": 0.6, "val_loss": 0.1}))
    assert (history.best.name, history.best.value) == ("validation_loss", 0.6)
