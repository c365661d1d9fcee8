"""The rate search: on scores that are known, and on nets that are trained."""

from __future__ import annotations

import math
import sys
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mcdrop
from mcdrop.tune import Entry, History, data_features, search_rates

RANGES = {"input": (0.0, 0.5), "hidden": (0.0, 0.8)}


def bowl(rates: dict[str, float]) -> float:
    """Least at 0.1 and 0.4."""
    return (rates["input"] - 0.1) ** 2 + (rates["hidden"] - 0.4) ** 2


def test_the_bayesian_search_finds_the_least_score() -> None:
    seen: list[tuple[int, int]] = []
    found = search_rates(bowl, RANGES, trials=40, progress=lambda *done: seen.append(done))
    assert found.best.score < 0.01
    assert found.best.score == min(trial.score for trial in found.trials)
    assert seen == [(number, 40) for number in range(1, 41)]
    again = search_rates(bowl, RANGES, trials=40)
    assert again == found
    assert search_rates(bowl, RANGES, trials=40, seed=1) != found


def test_a_grid_takes_every_pair_of_levels_once() -> None:
    found = search_rates(bowl, RANGES, method="grid", levels=3, trials=100)
    pairs = sorted(tuple(trial.rates.values()) for trial in found.trials)
    assert pairs == [(i, h) for i in (0.0, 0.25, 0.5) for h in (0.0, 0.4, 0.8)]
    assert tuple(found.best.rates.values()) == (0.0, 0.4)
    some = search_rates(bowl, RANGES, method="grid", levels=3, trials=4)
    assert len({tuple(trial.rates.values()) for trial in some.trials}) == 4


def test_trials_that_fail_are_passed_over() -> None:
    def score(rates: dict[str, float]) -> float:
        return math.nan if rates["input"] > 0.2 else bowl(rates)

    found = search_rates(score, RANGES, trials=20)
    assert math.isfinite(found.best.score)
    assert any(math.isnan(trial.score) for trial in found.trials)
    with pytest.raises(mcdrop.InputError, match="no trial had a finite score"):
        search_rates(lambda _: math.inf, RANGES, trials=2)


def test_optunas_verbosity_is_left_alone() -> None:
    before = optuna.logging.get_verbosity()
    search_rates(bowl, RANGES, trials=2)
    assert optuna.logging.get_verbosity() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ranges": {}}, "ranges is empty"),
        ({"ranges": {"a": (0.5, 0.2)}}, "the lower one first"),
        ({"ranges": {"a": (0.0, 1.0)}}, "from 0 to below 1"),
        ({"ranges": {"a": 0.5}}, "must be two numbers"),
        ({"trials": 0}, "trials must be an integer, at least 1"),
        ({"method": "random"}, "method must be one of"),
        ({"method": "grid", "levels": 1}, "levels must be an integer, at least 2"),
        ({"history": History("nowhere")}, "say data="),
        ({"seed": -1}, "seed must be an integer"),
        ({"seed": 2**40}, "seed must be an integer"),
        ({"ranges": {"a": ("0", "0.3")}}, "must be two numbers"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options: dict, said: str) -> None:
    with pytest.raises(mcdrop.InputError, match=said):
        search_rates(bowl, **{"ranges": RANGES, **options})


def test_a_missing_optuna_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(mcdrop.InputError, match=r"pip install 'mcdrop\[tune\]'"):
        search_rates(bowl, RANGES)


def test_a_history_is_written_and_asked(tmp_path: Path) -> None:
    history = History(tmp_path / "deep" / "rates.jsonl")
    first = search_rates(bowl, RANGES, trials=10, history=history, data="one")
    assert [entry.score for entry in history.entries()] == [t.score for t in first.trials]
    second = search_rates(bowl, RANGES, trials=6, history=history, data="two")
    ranked = sorted(first.trials, key=lambda trial: trial.score)
    assert [trial.rates for trial in second.trials[:5]] == [trial.rates for trial in ranked[:5]]
    assert len(history.entries()) == 16
    narrow = {"input": (0.2, 0.3), "hidden": (0.0, 0.8)}
    third = search_rates(bowl, narrow, trials=3, history=history, data="three")
    assert all(0.2 <= trial.rates["input"] <= 0.3 for trial in third.trials)


def test_rates_that_are_the_same_within_the_range_are_tried_once(tmp_path: Path) -> None:
    history = History(tmp_path / "rates.jsonl")
    for score, rate in enumerate((0.5, 0.6, 0.7, 0.2)):
        history.add(Entry("other", {}, {"p": rate}, float(score)))
    found = search_rates(
        lambda rates: rates["p"], {"p": (0.0, 0.3)}, trials=3, history=history, data="mine"
    )
    assert [trial.rates["p"] for trial in found.trials[:2]] == [0.3, 0.2]
    assert found.trials[2].rates["p"] not in (0.2, 0.3)


def test_a_grid_needs_neither_optuna_nor_a_history_nor_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    path = tmp_path / "rates.jsonl"
    path.write_text("not an entry\n")
    many = {f"rate{number}": (0.0, 0.5) for number in range(20)}  # 5^20 points
    found = search_rates(
        lambda rates: sum(rates.values()), many, method="grid", trials=3,
        history=History(path), data="x",
    )  # fmt: skip
    assert len({tuple(trial.rates.values()) for trial in found.trials}) == 3


def test_features_are_checked_before_anything_is_trained(tmp_path: Path) -> None:
    history, said = History(tmp_path / "rates.jsonl"), []
    features = {"log_rows": np.float32(1.5)}
    search_rates(bowl, RANGES, trials=1, history=history, data="x", features=features)
    assert history.entries()[0].features == {"log_rows": 1.5}
    for bad in ({"a": "many"}, {"a": math.nan}):
        with pytest.raises(mcdrop.InputError, match="the feature 'a'"):
            search_rates(said.append, RANGES, history=history, data="x", features=bad)
    assert said == []


def test_suggestions_begin_with_the_data_set_that_is_most_alike(tmp_path: Path) -> None:
    history = History(tmp_path / "rates.jsonl")
    for data, rows, rates in (
        ("far", 9.0, (0.1, 0.2)),
        ("near", 5.0, (0.3, 0.4)),
        ("mine", 4.0, (0.5,)),
    ):
        for score, rate in enumerate(rates):
            history.add(Entry(data, {"log_rows": rows}, {"p": rate}, float(score)))
    history.add(Entry("near", {"log_rows": 5.0}, {"q": 0.7}, -1.0))  # of another model
    assert history.suggestions("mine", {"log_rows": 4.0}, ["p"]) == [
        {"p": 0.3},
        {"p": 0.1},
        {"p": 0.4},
        {"p": 0.2},
    ]


@pytest.mark.parametrize("line", ["{", "[]", '{"data": "x"}', '{"data": 1, "features": 3}'])
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rates.jsonl"
    History(path).add(Entry("x", {}, {"p": 0.5}, 1.0))
    with path.open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(mcdrop.InputError, match=r"line 3 of .*rates.jsonl is no entry"):
        History(path).entries()


def test_features_tell_data_sets_apart() -> None:
    even = data_features(torch.zeros(100, 2, 5), torch.arange(100) % 4)
    assert even["log_rows"] == pytest.approx(math.log(100), rel=1e-6)
    assert even["log_inputs"] == pytest.approx(math.log(10), rel=1e-6)
    assert even["log_classes"] == pytest.approx(math.log(4), rel=1e-6)
    assert even["class_entropy"] == pytest.approx(1.0)
    uneven = data_features(torch.zeros(100, 10), (torch.arange(100) > 90).long())
    assert uneven["class_entropy"] < 0.5
    assert data_features(torch.zeros(9, 3), torch.zeros(9))["log_classes"] == 0.0
    with pytest.raises(mcdrop.InputError, match="got 3 and 2"):
        data_features(torch.zeros(3, 1), torch.zeros(2))


@cache
def _task(classes: range) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Few rows to train on, many that are held out, of some of the digits."""
    digits = load_digits()
    images, labels = torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target)
    mine = (labels >= classes.start) & (labels < classes.stop)
    images, labels = images[mine], labels[mine] - classes.start
    return images[:80], labels[:80], images[80:], labels[80:]


def _held_out_nll(classes: range, rates: dict[str, float]) -> float:
    x, y, held_x, held_y = _task(classes)
    scores = []
    for seed in range(3):  # one training alone tells more of its luck than of its rates
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Dropout(rates["input"]), nn.Linear(64, 64), nn.ReLU(),
            nn.Dropout(rates["hidden"]), nn.Linear(64, 5),
        )  # fmt: skip
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(120):
            optimiser.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimiser.step()
        mc = mcdrop.MCDropout(net, x[:1], task="classification", engine="eager")
        scores.append(F.nll_loss(mc.predict(held_x, samples=32).mean.log(), held_y).item())
    return sum(scores) / len(scores)


@pytest.mark.slow
def test_with_a_history_the_search_reaches_the_cold_best_in_fewer_trials(tmp_path: Path) -> None:
    """Rates that do well on five digits do well on the other five: one trial, against 3 to 7."""
    history = History(tmp_path / "rates.jsonl")
    ranges = {"input": (0.01, 0.6), "hidden": (0.01, 0.8)}
    first, second = range(5), range(5, 10)
    search_rates(
        lambda rates: _held_out_nll(first, rates), ranges, trials=12, history=history, data="0-4"
    )
    fewer = 0
    for seed in range(3):
        cold = search_rates(
            lambda rates: _held_out_nll(second, rates), ranges, trials=12, seed=seed
        )
        warm = search_rates(
            lambda rates: _held_out_nll(second, rates),
            ranges,
            trials=2,
            seed=seed,
            history=History(_copied(history, tmp_path / f"{seed}.jsonl")),
            data="5-9",
        )
        goal = 1.03 * cold.best.score
        reached, first_reached = warm.trials_to(goal), cold.trials_to(goal)
        assert first_reached is not None
        fewer += reached is not None and reached < first_reached
    assert fewer == 3


def _copied(history: History, path: Path) -> Path:
    path.write_text(history.path.read_text())
    return path
