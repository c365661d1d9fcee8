"""The monitor in a plain loop: what it records, shows, draws and saves."""

import copy
import io
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt
from rich.console import Console
from torch import nn

import mcdrop
from mcdrop import InputError, McdropError, Monitor, layers, schedules

ROOT = Path(__file__).parents[2]


def console(*, terminal=False, width=100):
    return Console(
        file=io.StringIO(), force_terminal=terminal, color_system=None, width=width, height=40,
        _environ={},
    )  # fmt: skip


def shown(screen: Console) -> str:
    return screen.file.getvalue()


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(0.2),
        layers.ConcreteDropout(nn.Linear(4, 4), rows=10, p=0.3),
        layers.VariationalDropout(4, 4, rows=10, p=0.4),
        layers.SparseVariationalDropout(4, 4, rows=10),
        nn.GRU(4, 4, 2, dropout=0.1),
        layers.AdaptiveDropout(nn.Linear(4, 4)),
    )


def test_rates_of_all_layers_set_and_learned():
    model = net()
    monitor = Monitor(model, display="none")
    schedule = schedules.LinearRate(model, 0.5, 0.1, steps=2, sites="0")
    first = monitor.record(0).rates
    schedule.step()
    with torch.no_grad():
        model[1].logit += 1.0
    second = monitor.record(1).rates
    assert list(first) == ["0", "1", "4", "2", "3"]
    assert [round(first[name], 4) for name in "0124"] == [0.5, 0.3, 0.4, 0.1]
    assert 0.0 < first["3"] < 1.0
    assert second["0"] == pytest.approx(0.3)
    assert second["1"] == pytest.approx(torch.sigmoid(model[1].logit).item())
    assert second["2"] == first["2"]


def test_a_loop_is_recorded_and_the_model_is_left_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 2)).eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    x, y = torch.randn(40, 3), torch.randint(2, (40,))
    state = torch.get_rng_state()
    with Monitor(model, display="none") as monitor:
        for epoch in range(3):
            monitor.record(
                epoch=epoch, train_loss=torch.tensor(0.5, requires_grad=True),
                validation_loss=0.4 - epoch / 10, logits=model(x), targets=y,
            )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    last = monitor.history.epochs[-1]
    assert last.values == {"train_loss": 0.5, "validation_loss": pytest.approx(0.2)}
    assert list(last.calibration) == ["gap", "ece", "confidence", "accuracy"]
    assert last.rates == {"1": 0.5}


def test_without_a_terminal_an_epoch_is_a_line():
    screen = console()
    with Monitor(nn.Dropout(0.25), console=screen) as monitor:
        for epoch, loss in enumerate((0.5, math.nan, math.inf)):
            monitor.record(epoch, train_loss=loss, **{"a_long_name_" * 10: 1.0})
    lines = shown(screen).splitlines()
    assert [line.partition("  a_")[0] for line in lines] == [
        "epoch 0  train_loss 0.5", "epoch 1  train_loss NaN", "epoch 2  train_loss ∞",
    ]  # fmt: skip
    assert all(line.endswith("rate 0.25") for line in lines)


def test_on_a_terminal_there_is_a_table():
    screen = console(terminal=True)
    with Monitor(nn.Dropout(0.25), console=screen) as monitor:
        for epoch in range(30):
            loss = math.nan if epoch == 20 else 1 / (epoch + 1)
            monitor.record(epoch, train_loss=0.5, validation_loss=loss)
    last = shown(screen).rpartition("epoch  train loss")[2]
    assert "\n   18 " in last
    assert "\n   17 " not in last  # as many as fit
    assert "NaN" in last
    assert "best validation loss 0.03333, epoch 29" in last
    assert "validation loss was first NaN or infinite in epoch 20" in last
    assert shown(screen).count("\x1b[?25l") == shown(screen).count("\x1b[?25h") == 1  # the cursor


def test_an_error_leaves_the_terminal_in_order():
    screen = console(terminal=True)
    monitor = Monitor(console=screen)
    with pytest.raises(InputError), monitor:
        monitor.record(-1)
    assert shown(screen).count("\x1b[?25h") == 1
    monitor.record(1, train_loss=1.0)  # a line from here on
    assert "epoch 1  train_loss 1" in shown(screen)


def test_nothing_is_shown_where_nothing_is_wanted():
    screen = console(terminal=True)
    with Monitor(console=screen, display="none") as monitor:
        monitor.record(0, train_loss=1.0)
    assert shown(screen) == ""


def test_saved_and_read_back(tmp_path):
    monitor = Monitor(nn.Dropout(0.25), display="none", capacity=5)
    for epoch in range(20):
        monitor.record(
            epoch, validation_loss=math.nan if epoch == 3 else 1.0 + epoch,
            intervals=(torch.zeros(4), torch.ones(4)), targets=torch.full((4,), 0.5),
        )  # fmt: skip
    path = monitor.save(tmp_path / "new" / "run.json")
    again = Monitor.load(path, nn.Dropout(0.5), display="none")
    assert again.to_dict() == monitor.to_dict()
    assert again.history.epochs[0].calibration == {"gap": pytest.approx(0.1), "coverage": 1.0,
                                                   "level": 0.9}  # fmt: skip
    assert again.history.not_finite == {"validation_loss": 3}
    assert again.record(20).rates == {"Dropout": 0.5}
    third = Monitor(display="none")
    third.load_state_dict(copy.deepcopy(monitor.state_dict()))
    assert third.to_dict() == monitor.to_dict()
    with pytest.raises(InputError, match=r"cannot read .*nowhere"):
        Monitor.load(tmp_path / "nowhere")


def test_a_monitor_travels_to_other_processes():
    monitor = Monitor(nn.Dropout(0.25))
    monitor._screen.display = "none"
    monitor.record(0, train_loss=1.0)
    assert pickle.loads(pickle.dumps(monitor)).to_dict() == monitor.to_dict()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_picture_is_drawn(tmp_path, ending):
    model = net()
    monitor = Monitor(model, display="none")
    for epoch in range(4):
        monitor.record(
            epoch, train_loss=1.0, validation_loss=math.nan if epoch == 2 else 2.0, f1=0.5,
            probs=torch.tensor([[0.9, 0.1]]), targets=torch.tensor([0]),
        )  # fmt: skip
    path = monitor.plot(tmp_path / "new" / f"run.{ending}")
    assert path.stat().st_size > 5000
    assert plt.get_fignums() == []  # which keeps what it draws


def test_the_picture_shows_every_panel_and_what_is_not_finite():
    from mcdrop.monitor.plot import draw

    monitor = Monitor(nn.Sequential(nn.Dropout(0.1), nn.Dropout(0.1), nn.Dropout(0.2)))
    monitor._screen.display = "none"
    for epoch in range(4):
        monitor.record(
            epoch, f1=0.5, train_loss=1.0, val_loss=math.inf if epoch else 2.0,
            intervals=(torch.zeros(1), torch.ones(1)), targets=torch.zeros(1),
        )  # fmt: skip
    panels = draw(monitor.history).axes
    assert [axes.get_title("left") for axes in panels] == [
        "loss", "f1", "calibration of intervals", "rates",
    ]  # fmt: skip
    texts = [[t.get_text() for t in a.get_legend().get_texts()] if a.get_legend() else []
             for a in panels]  # fmt: skip
    assert texts[0] == ["train", "val", "val not finite (3×)", "best"]
    assert texts[2] == ["gap", "level", "coverage"]
    assert texts[3] == ["0, 1", "2"]


def test_pictures_that_cannot_be(tmp_path, monkeypatch):
    monitor = Monitor(display="none")
    with pytest.raises(InputError, match="nothing to draw"):
        monitor.plot(tmp_path / "a.png")
    monitor.record(0, train_loss=1.0)
    with pytest.raises(InputError, match=r"must be a \.png, \.svg or \.pdf"):
        monitor.plot(tmp_path / "a.docx")
    monkeypatch.delitem(sys.modules, "mcdrop.monitor.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(McdropError, match=r"pip install 'mcdrop\[eval\]'"):
        monitor.plot(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epoch": -1}, "epoch must be an integer"),
        ({"epoch": 0, "loss": "low"}, "loss must be a number"),
        ({"epoch": 0, "loss": torch.zeros(2)}, "loss must be a number, or a tensor of one"),
        ({"epoch": 0, "targets": torch.zeros(2)}, "got none of them, and targets"),
        ({"epoch": 0, "probs": torch.zeros(2)}, "got probs, and no targets"),
        (
            {"epoch": 0, "probs": torch.zeros(2), "logits": torch.zeros(2), "targets": 1},
            "got probs, logits",
        ),
        ({"epoch": 0, "probs": torch.zeros(2, 3), "targets": torch.zeros(5).long()}, "labels"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_recorded(arguments, words):
    monitor = Monitor(display="none")
    with pytest.raises(InputError, match=words):
        monitor.record(**arguments)
    assert monitor.history.epochs == []


@pytest.mark.parametrize(
    "arguments",
    [{"model": "net"}, {"display": "html"}, {"capacity": 1}, {"level": 1.0}, {"bins": 0}],
)
def test_a_monitor_checks_its_arguments(arguments):
    with pytest.raises(InputError):
        Monitor(**arguments)


def test_the_root_package_names_it():
    assert mcdrop.Monitor is mcdrop.monitor.Monitor


def test_neither_torch_nor_pictures_are_imported_before_they_are_used():
    code = (
        "import sys, mcdrop; assert 'torch' not in sys.modules; mcdrop.Monitor, mcdrop.schedules; "
        "assert 'mcdrop.monitor.plot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
