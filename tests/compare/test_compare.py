"""The comparison of techniques: what it trains, what it says, how it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal

import mcdrop
from mcdrop import layers, schedules
from mcdrop.compare import TECHNIQUES, Comparison, Technique, chosen, compare, draw, rich_table
from mcdrop.compare.data import DATA, DataName, Fold, folds, task_of
from mcdrop.compare.table import cells, markdown
from mcdrop.compare.trial import Answers, run


def test_every_layer_of_the_family_is_compared() -> None:
    names = {technique.name for technique in TECHNIQUES}
    family = {name for name in layers.__all__ if name[0].isupper() and name != "Regularized"}
    assert family <= names
    assert names - family == {"none", "LinearRate", "CurriculumRate"}
    assert {"LinearRate", "CurriculumRate"} <= set(schedules.__all__)


@pytest.mark.parametrize("name", DATA)
def test_folds_hold_every_row_out_once(name: DataName) -> None:
    cut = list(folds(name, 4))
    held = torch.cat([fold.test[0].flatten(1) for fold in cut])
    rows = {"digits": 1797, "diabetes": 442}[name]
    assert len(held) == rows
    assert len(cut) == 4
    for fold in cut:
        assert len(fold.train[0]) + len(fold.test[0]) == rows
        assert fold.outside.shape == fold.test[0].shape
        assert not torch.equal(fold.outside, fold.test[0])
    if name == "digits":  # pixels are shuffled, none is lost
        pixels = [x.flatten(1).sort(1).values for x in (cut[0].outside, cut[0].test[0])]
        assert torch.equal(*pixels)
    else:  # standardised by what is trained on
        assert cut[0].train[0].mean().abs() < 1e-4
        assert cut[0].train[1].std().item() == pytest.approx(1.0)
        assert (cut[0].outside - cut[0].test[0]).abs().sub(3.0).abs().max() < 1e-5


def test_folds_are_those_of_the_seed() -> None:
    first, again, other = (next(folds("digits", 3, seed)) for seed in (0, 0, 1))
    assert torch.equal(first.test[0], again.test[0])
    assert torch.equal(first.outside, again.outside)
    assert not torch.equal(first.test[0], other.test[0])


def test_losses_and_uncertainties_of_answers() -> None:
    probs = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    said = Answers(probs, None)
    torch.testing.assert_close(
        said.losses(torch.tensor([0, 2])), -torch.tensor([0.5, 0.7]).double().log()
    )
    assert said.losses(torch.tensor([2, 2])).isfinite().all()
    assert said.uncertainty[0].item() == pytest.approx(torch.tensor(2.0).log().item())
    mean, variance, target = torch.randn(5, 1), torch.rand(5, 1) + 0.1, torch.randn(5, 1)
    numbers = Answers(mean, variance)
    wanted = -Normal(mean.double(), variance.sqrt().double()).log_prob(target.double())[:, 0]
    torch.testing.assert_close(numbers.losses(target), wanted)
    torch.testing.assert_close(numbers.uncertainty, variance[:, 0].sqrt())


def _few(fold: Fold) -> Fold:
    return Fold(
        (fold.train[0][:70], fold.train[1][:70]),
        (fold.test[0][:9], fold.test[1][:9]),
        fold.outside[:9],
        fold.scale,
    )


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: f"{t.name}-{t.net}")
def test_every_technique_trains_and_answers(technique: Technique, name: DataName) -> None:
    fold, task = _few(next(folds(name, 2))), task_of(name)
    state = torch.get_rng_state()
    trial = run(technique, fold, task, epochs=1, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    for answers in (trial.held, trial.outside):
        assert answers.mean.shape == (9, 10 if name == "digits" else 1)
        assert answers.mean.isfinite().all()
        assert (answers.uncertainty > 0).all()
    assert trial.train_seconds > 0
    again = run(technique, fold, task, epochs=1, seed=0)
    torch.testing.assert_close(trial.held.mean, again.held.mean, rtol=1e-4, atol=1e-5)


def test_a_comparison_is_against_the_net_alone(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = compare(
        "diabetes",
        count=2,
        epochs=2,
        patterns=["Dropout", "Head*"],
        progress=lambda *done: seen.append(done),
    )
    names = [(outcome.technique, outcome.net) for outcome in found.outcomes]
    assert names == [
        ("none", "dense"), ("Dropout", "dense"), ("none", "attention"), ("HeadDropout", "attention")
    ]  # fmt: skip
    assert seen == [(number, 8) for number in range(1, 9)]
    for plain, technique in (found.outcomes[:2], found.outcomes[2:]):
        assert plain.against_none == 0.0
        assert technique.against_none == pytest.approx(technique.nll - plain.nll)
        assert technique.against_none_error > 0
        assert 30 < technique.error < 120  # in units of the disease's progression
        assert 0 <= technique.auroc <= 1
    assert Comparison.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    picture = tmp_path / "picture.png"
    draw([found], picture)
    assert picture.stat().st_size > 10_000


def test_what_is_clearly_worse_is_marked() -> None:
    found = compare("diabetes", count=2, epochs=1, patterns=["Dropout"])
    plain, dropout = found.outcomes
    clear = replace(dropout, against_none=0.5, against_none_error=0.1)
    unclear = replace(clear, against_none=0.15)
    assert clear.worse
    assert not unclear.worse
    assert cells(found, clear)[5] == "+0.500 ± 0.100 *"
    assert markdown(replace(found, outcomes=(plain, clear))).count(" *") == 1
    assert markdown(replace(found, outcomes=(plain, unclear))).count(" *") == 0


def test_a_table_fits_a_terminal() -> None:
    from rich.console import Console

    found = compare("diabetes", count=2, epochs=1, patterns=["SparseVariationalDropout"])
    for width in (80, 120):
        console = Console(width=width, color_system=None)
        with console.capture() as text:
            console.print(rich_table(found, width))
        assert "…" not in text.get(), text.get()
        assert "SparseVariationalDropout" in text.get()


def test_a_technique_that_is_none_is_refused() -> None:
    with pytest.raises(mcdrop.InputError, match=r"no technique is called 'Drop\?ut\*x'.*Dropout"):
        chosen(["Drop?ut*x"])
    with pytest.raises(mcdrop.InputError, match="folds must be an integer"):
        compare("digits", count=1)
    with pytest.raises(mcdrop.InputError, match="data must be one of"):
        compare("wine")
    with pytest.raises(mcdrop.InputError, match="epochs must be an integer, at least 1"):
        compare("digits", epochs=0)
    with pytest.raises(mcdrop.InputError, match="seed must be an integer"):
        compare("digits", seed=-1)
