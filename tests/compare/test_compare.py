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
from mcdrop.compare.answers import Answers, deterministic
from mcdrop.compare.data import DATA, DataName, Fold, folds, task_of
from mcdrop.compare.differences import difference, ranking
from mcdrop.compare.table import cells, markdown
from mcdrop.compare.training import PATIENCE, Training, train
from mcdrop.compare.trial import run
from mcdrop.metrics import functional


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
        parts = (fold.train[0], fold.validation[0], fold.test[0])
        assert sum(map(len, parts)) == rows
        assert len(parts[1]) == pytest.approx(0.2 * (rows - len(parts[2])), abs=1)
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


def test_trainings_of_a_fold_hold_the_same_rows_out_and_stop_by_others() -> None:
    one, two = (next(folds("digits", 3, training=training)) for training in (0, 1))
    assert torch.equal(one.test[0], two.test[0])
    assert torch.equal(one.outside, two.outside)
    assert not torch.equal(one.validation[0], two.validation[0])
    seen = {tuple(row.tolist()) for row in one.train[0].flatten(1)}
    for other in (one.validation, one.test):  # no row is in two parts (of digits all differ)
        assert seen.isdisjoint(tuple(row.tolist()) for row in other[0].flatten(1))


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
        (fold.validation[0][:20], fold.validation[1][:20]),
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
    for answers in (trial.said.held, trial.said.outside, trial.off.held, trial.off.outside):
        assert answers.mean.shape == (9, 10 if name == "digits" else 1)
        assert answers.mean.isfinite().all()
        assert (answers.uncertainty > 0).all()
    assert torch.equal(trial.said.held.mean, trial.off.held.mean) == technique.plain
    assert trial.epoch_seconds > 0
    assert trial.predict_seconds is not None
    assert trial.predict_seconds > 0
    again = run(technique, fold, task, epochs=1, seed=0)
    torch.testing.assert_close(trial.said.held.mean, again.said.held.mean, rtol=1e-4, atol=1e-5)


def test_untimed_trials_say_the_same() -> None:
    fold, task = _few(next(folds("digits", 2))), task_of("digits")
    timed, untimed = (
        run(chosen(["Dropout"])[1], fold, task, epochs=1, seed=0, timed=timed)
        for timed in (True, False)
    )
    assert untimed.predict_seconds is None
    torch.testing.assert_close(timed.said.held.mean, untimed.said.held.mean)


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fold = _few(next(folds("diabetes", 2)))
        run(chosen(["Dropout"])[0], fold, task_of("diabetes"), epochs=1, seed=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def _weights(epochs: int, name: str = "Dropout") -> tuple[Training, torch.Tensor]:
    torch.manual_seed(0)
    technique = next(t for t in TECHNIQUES if t.name == name)
    fold, task = next(folds("diabetes", 2)), task_of("diabetes")
    training = train(technique, fold, task, epochs)
    said = deterministic(training.net, fold.validation[0], task)
    return training, said.losses(fold.validation[1]).mean()


def test_the_best_epoch_is_restored() -> None:
    longest, score = _weights(200)
    assert not longest.unfinished  # patients are soon overfitted
    assert 1 < longest.best_epoch < 200 - PATIENCE
    exact, again = _weights(longest.best_epoch)  # the very epochs up to there
    assert exact.best_epoch == longest.best_epoch
    assert exact.unfinished
    torch.testing.assert_close(score, again)
    _, early = _weights(1)
    assert score < early
    mine, theirs = longest.net.state_dict(), exact.net.state_dict()
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name])


@pytest.mark.parametrize("name", ["LinearRate", "CurriculumRate"])
def test_a_net_whose_rate_grows_has_the_rate_that_it_grew_to(name: str) -> None:
    for epochs in (1, 30):
        training, _ = _weights(epochs, name)
        assert training.best_epoch >= min(epochs, 10)
        assert training.net.after_first.p == pytest.approx(0.3, abs=1e-4)


def test_the_error_of_a_difference_covers_rows_and_trainings() -> None:
    """Over 400 made-up comparisons the squared error meets the variance of the mean.

    A mean of 400 squares has a relative error of 7%, and so has the variance: 30% are three of
    both together. Rows alone would say 0.01 where 0.01 + 0.04 is true.
    """
    generator = torch.Generator().manual_seed(0)
    sizes, trainings = (40, 60), 4
    rows, blocks = (
        torch.tensor([0.4, 0.6]).double(),
        torch.randn(2, 400, trainings, 2, generator=generator),
    )
    luck = 0.55 * blocks[0].double()
    found = []
    for own in luck:  # [S, F]
        row = torch.randn(sum(sizes), generator=generator).double()
        losses = row + own.repeat_interleave(torch.tensor(sizes), 1)
        found.append(difference(losses, torch.zeros_like(losses), sizes))
    means = torch.tensor([each.mean for each in found])
    squares = torch.tensor([each.error**2 for each in found])
    wanted = 1.0 / sum(sizes) + 0.55**2 * rows.square().sum().item() / trainings
    assert means.var().item() == pytest.approx(wanted, rel=0.3)
    assert squares.mean().item() == pytest.approx(wanted, rel=0.3)
    single = difference(torch.randn(1, 100, generator=generator), torch.zeros(1, 100), sizes)
    assert single.error == pytest.approx(0.1, rel=0.3)


def test_what_rows_give_to_an_auroc_has_it_as_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = torch.randint(6, (50,), generator=generator).float()  # with ties
    outside = inside + torch.randint(-1, 4, (50,), generator=generator)
    area = functional.detection_auroc(inside, outside).item()
    given = ranking(inside, outside)
    assert given.mean().item() == pytest.approx(area, abs=1e-6)
    picked = torch.randint(50, (500, 50), generator=generator)
    drawn = torch.tensor([functional.detection_auroc(inside[i], outside[i]) for i in picked])
    error = given.std().item() / 50**0.5
    assert drawn.std().item() == pytest.approx(error, rel=0.2)  # a bootstrap of 500: ± 3%


def test_a_comparison_is_against_the_net_alone(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = compare(
        "diabetes",
        count=2,
        seeds=2,
        epochs=2,
        patterns=["Dropout", "Head*"],
        progress=lambda *done: seen.append(done),
    )
    names = [(outcome.technique, outcome.net) for outcome in found.outcomes]
    assert names == [
        ("none", "dense"), ("Dropout", "dense"), ("none", "attention"), ("HeadDropout", "attention")
    ]  # fmt: skip
    assert seen == [(number, 16) for number in range(1, 17)]
    for plain, technique in (found.outcomes[:2], found.outcomes[2:]):
        assert plain.against_none == 0.0
        assert technique.against_none == pytest.approx(technique.nll - plain.nll)
        assert technique.against_none_error > 0
        assert plain.nll_off == plain.nll
        assert plain.auroc_off == plain.auroc
        assert technique.against_off == pytest.approx(technique.nll - technique.nll_off)
        assert technique.off_against_none == pytest.approx(technique.nll_off - plain.nll)
        assert technique.against_off_error > 0
        assert technique.auroc_error > 0
        assert 1 <= technique.best_epoch <= 2
        assert technique.unfinished == 4  # of two epochs no training has enough
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
    found = compare("diabetes", count=2, epochs=1, patterns=["SparseVariationalDropout"])
    plain, sparse = found.outcomes
    large = replace(sparse, against_none=1.0, against_none_error=0.1, nll=10.0, nll_off=10.0)
    for data, outcomes in (("diabetes", found.outcomes), ("digits", (plain, large))):
        shown = replace(found, data=data, outcomes=tuple(replace(o, error=0.5) for o in outcomes))
        _fits(shown)


def _fits(found: Comparison) -> None:
    from rich.console import Console

    for width in (80, 120, 200):
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
    with pytest.raises(mcdrop.InputError, match="seeds must be an integer, from 1"):
        compare("digits", seeds=0)
    with pytest.raises(mcdrop.InputError, match="seed must be an integer"):
        compare("digits", seed=-1)
