"""UCI runs: stacks against single nets, scores against plain loops, folders of the layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import record, report, tables
from benchmarks.uci import __main__ as command
from benchmarks.uci import document, layout, nets, protocols, stage
from benchmarks.uci.layout import LayoutError
from benchmarks.uci.paper import PAPER
from benchmarks.uci.score import HeldOut, score
from benchmarks.uci.stack import Stack
from benchmarks.uci.train import Recipe, drawn, gaussian, squared_error, train


class Serial(Executor):
    """Runs everything where it is."""

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **_: Any) -> Iterator[Any]:
        return map(fn, *iterables)


def write_set(folder: Path, rows: int = 60, splits: int = 3, uneven: int = 0) -> Path:
    """A set in the layout: y = 3 x₀ + noise, and a column that never changes."""
    rng = np.random.default_rng(0)
    data = folder / "data"
    data.mkdir(parents=True)
    x = rng.normal(size=(rows, 3))
    x[:, 2] = 7.0
    y = 10.0 + 3.0 * x[:, 0] + 0.3 * rng.normal(size=rows)
    np.savetxt(data / "data.txt", np.column_stack([y, x]))
    files: dict[str, object] = {
        "index_features": [1, 2, 3],
        "index_target": [0],
        "n_splits": [splits],
        "n_hidden": [8],
        "n_epochs": [2],
        "dropout_rates": [0.05, 0.2],
        "tau_values": [0.5, 4.0],
    }
    for split in range(splits):
        order = rng.permutation(rows)
        cut = rows - rows // 6 - (uneven if split == 0 else 0)
        files |= {f"index_train_{split}": order[:cut], f"index_test_{split}": order[cut:]}
    for name, values in files.items():
        np.savetxt(data / f"{name}.txt", np.asarray(values))
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_set(tmp_path / "line")


RATES = [0.1, 0.1, 0.4]


def _single(stack: Stack, net: int) -> list[Tensor]:
    parts = (stack.first, stack.first_bias, stack.second, stack.second_bias)
    return [part[net].detach().clone().requires_grad_() for part in parts]


def _loss(output: Tensor, y: Tensor, outputs: int) -> Tensor:
    if outputs == 1:
        return F.mse_loss(output[:, 0], y)
    spread = output[:, 1]
    weight = (0.5 * spread).exp().detach()
    return (weight * (0.5 * spread + 0.5 * (output[:, 0] - y).square() / spread.exp())).mean()


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_stack_is_trained_as_its_nets_would_be_alone(outputs: int) -> None:
    """Autograd and torch's Adam on each net, with the same masks and the same order of rows."""
    torch.manual_seed(0)
    x, y, places = torch.randn(2, 11, 3), torch.randn(2, 11), [0, 1, 1]
    decay = torch.tensor([0.01, 0.02, 0.3])
    stack = Stack(RATES, 3, 5, outputs, seed=1)
    alone = [_single(stack, net) for net in range(3)]
    slope = squared_error if outputs == 1 else gaussian
    train(stack, x, y, places, Recipe(slope, decay, epochs=9, batch=4, rate=0.01, seed=5))
    for net, parts in enumerate(alone):
        masks, generator = drawn(stack, 4, seed=5), torch.Generator().manual_seed(5)
        adam = torch.optim.Adam(parts, lr=0.01)
        first, first_bias, second, second_bias = parts
        for _ in range(9):
            order = torch.rand(2, 11, generator=generator).argsort(1)[places[net]]
            for rows in order.split(4):
                mask = next(masks)
                inputs, hidden = mask.inputs[net, : len(rows)], mask.hidden[net, : len(rows)]
                units = F.relu(x[places[net], rows] * inputs @ first + first_bias) * hidden
                loss = _loss(units @ second + second_bias, y[places[net], rows], outputs)
                squares = first.square().sum() + second.square().sum()
                adam.zero_grad()
                (loss + decay[net] * squares).backward()
                adam.step()
        for ours, theirs in zip(_single(stack, net), parts, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_masks_are_independent_with_the_rate_of_each_net() -> None:
    """Rates within 5 standard errors, a false-alarm rate below 1e-5 for all of them."""
    stack = Stack([0.02, 0.5], 10, 30, 1, seed=0)
    masks = drawn(stack, 50, seed=3)
    taken = [next(masks) for _ in range(40)]
    for net, p in enumerate((0.02, 0.5)):
        for name in ("inputs", "hidden"):
            values = torch.stack([getattr(mask, name)[net] for mask in taken])
            assert set(values.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - p)).item()}
            error = math.sqrt(p * (1 - p) / values.numel())
            assert abs((values == 0).double().mean().item() - p) < 5 * error
    hidden = torch.stack([mask.hidden[1] for mask in taken]).flatten(1)
    agree = (hidden[:-1] == hidden[1:]).double().mean().item()
    assert abs(agree - 0.5) < 5 * 0.5 / math.sqrt(hidden[1:].numel())


@pytest.mark.parametrize("outputs", [1, 2])
def test_scores_are_those_of_a_plain_loop(outputs: int) -> None:
    """20,000 samples each way: both figures within 3% and 0.03 nats."""
    torch.manual_seed(1)
    stack = Stack([0.2, 0.5], 4, 6, outputs, seed=2)
    rows = HeldOut(
        x=torch.randn(7, 2, 4),
        y=torch.randn(7, 2) + 5.0,
        mean=torch.tensor([5.0, 4.0]),
        std=torch.tensor([2.0, 3.0]),
    )
    noise = torch.tensor([0.5, 1.5])
    found = score(stack, rows, noise, samples=20_000)
    with torch.no_grad():
        out = stack.train()(rows.x.repeat(20_000, 1, 1)).unflatten(0, (20_000, 7))
    means = out[..., 0] * rows.std + rows.mean
    stds = noise.expand_as(means)
    if outputs == 2:
        stds = noise * rows.std * (out[..., 1] / 2).exp()
    logs = torch.distributions.Normal(means, stds).log_prob(rows.y).double()
    likelihood = (logs.logsumexp(0) - math.log(20_000)).mean(0)
    assert torch.allclose(found.log_likelihood, likelihood, atol=0.03)
    rmse = (means.mean(0) - rows.y).square().mean(0).sqrt()
    assert torch.allclose(found.rmse, rmse, rtol=0.03)


def test_a_folder_is_read_and_standardised_by_its_training_rows(small: Path) -> None:
    uci = layout.read(small)
    assert (uci.name, uci.hidden, uci.epochs) == ("line", 8, 2)
    assert (uci.rates, uci.taus) == ((0.05, 0.2), (0.5, 4.0))
    assert uci.x.shape == (60, 3)
    assert len(uci.splits) == 3
    assert len(layout.read(small, splits=2).splits) == 2
    train_rows, test_rows = uci.splits[0]
    part = stage.test(uci)[0]
    assert part.x.mean(0).abs().max() < 1e-6
    assert torch.allclose(part.x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)
    assert np.allclose(part.y * part.std + part.mean, uci.y[train_rows], atol=1e-4)
    assert np.allclose(part.held_y, uci.y[test_rows], atol=1e-5)
    held = stage.validation(uci)[0]
    assert (len(held.x), len(held.held_x)) == (40, 10)
    assert np.allclose(held.held_y, uci.y[train_rows[40:]], atol=1e-5)


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("data", None, "data.txt is missing"),
        ("data", "1 2\n3 x\n", "data.txt: "),
        ("index_train_1", "0\n1\n60\n", "numbers of rows, 0 to 59"),
        ("index_features", "1\n9\n", "numbers of columns, 0 to 3"),
        ("index_target", "0\n1\n", "expected one column; got 2"),
        ("index_test_2", None, "index_test_2.txt is missing"),
    ],
)
def test_a_folder_that_does_not_have_the_layout_is_told(
    small: Path, file: str, text: str | None, told: str
) -> None:
    path = small / "data" / f"{file}.txt"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(LayoutError, match=told):
        layout.read(small)
    with pytest.raises(SystemExit, match=told):
        command.main(["--data", str(small.parent), "--sets", "line"])


def test_rows_that_are_both_trained_on_and_tested_are_told(small: Path) -> None:
    data = small / "data"
    (data / "index_test_1.txt").write_text((data / "index_train_1.txt").read_text())
    with pytest.raises(LayoutError, match="split 1 has rows in both"):
        layout.read(small)


def test_the_published_grid_is_the_papers(small: Path) -> None:
    uci = layout.read(small)
    grid = protocols.published_grid(uci, 0, 40, 200)
    assert [(net.rate, round(net.noise**-2, 6)) for net in grid] == [
        (0.05, 0.5), (0.05, 4.0), (0.2, 0.5), (0.2, 4.0),
    ]  # fmt: skip
    assert grid[1].decay == pytest.approx(0.01**2 * 0.95 / (2 * 40 * 4.0))
    assert {net.epochs for net in grid} == {(200,)}
    ours = protocols.our_grid(uci, 0, 40, 200)
    assert [net.epochs for net in ours] == [(25, 50, 100, 200)] * 2


def test_a_net_is_chosen_by_validation_and_trained_again_for_as_long(small: Path) -> None:
    uci = layout.read(small)
    net, other = protocols.our_grid(uci, 1, 40, 200)
    results = [
        nets.Result(net, 100, 1.0, -2.0),
        nets.Result(other, 50, 9.0, -1.0),
        nets.Result(net, 25, 0.1, -3.0),
    ]
    (chosen,) = protocols.best(results)
    assert chosen is results[1]
    again = protocols.refitted(chosen, protocols.our_grid(uci, 1, 50, 200))
    assert (again.rate, again.epochs) == (other.rate, (50,))
    assert again.decay == pytest.approx(other.decay * 40 / 50)


def test_splits_of_unequal_sizes_are_trained_in_stacks_of_their_own(tmp_path: Path) -> None:
    uci = layout.read(write_set(tmp_path / "uneven", uneven=4))
    results = protocols.run(uci, protocols.PUBLISHED, Serial(), multiple=150, samples=64)
    assert [result.net.split for result in results] == [0, 1, 2]
    for result in results:  # a constant has 3.0 and -2.5
        assert result.rmse < 2.0
        assert result.log_likelihood > -2.2


@pytest.mark.slow
def test_processes_change_nothing_and_the_document_shows_what_was_found(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.jsonl"
    arguments = ["--data", str(small.parent), "--multiple", "20", "--samples", "100"]
    command.main([*arguments, "--output", str(output)])
    shown = capsys.readouterr()
    assert "line, published: RMSE" in shown.out
    assert "line, defaults, testing: 3 of 3 nets" in shown.err
    ratio, *records = record.read(output)
    assert ratio["ratio"] > 2.0
    assert [row["model"] for row in records] == ["line, published", "line, defaults"]
    alone = protocols.run(
        layout.read(small), protocols.PUBLISHED, Serial(), multiple=20, samples=100
    )
    assert [row["rmse"] for row in records[0]["splits"]] == pytest.approx(
        [result.rmse for result in alone], rel=1e-4
    )
    made = document.blocks(records)
    assert f"| line | 60, 3 | published protocol | {records[0]['rmse']:.4f} ±" in made["uci"]
    assert made["bars"].count("\n") == 1  # the paper has no such set


def test_the_page_shows_the_committed_results() -> None:
    page = document.DOCUMENT.read_text(encoding="utf-8")
    assert report.filled(page, document.blocks(record.read(command.RESULTS))) == page


def test_what_was_asked_of_the_three_sets_is_reached() -> None:
    runs = tables.of_kind(record.read(command.RESULTS), "uci")
    found = {(row["set"], row["protocol"]): row for row in runs}
    better = []
    for name, paper in PAPER.items():
        again, ours = found[name, "published"], found[name, "defaults"]
        assert len(again["splits"]) == len(ours["splits"]) == 20
        assert again["epochs"] == 4000
        assert again["samples"] == ours["samples"] == 10_000
        assert again["rmse"] <= paper.rmse + 2 * paper.rmse_error
        lowest = paper.log_likelihood - 2 * paper.log_likelihood_error
        assert again["log_likelihood"] >= lowest
        better.append(ours["log_likelihood"] > paper.log_likelihood)
        assert ours["log_likelihood"] >= paper.log_likelihood - paper.log_likelihood_error
    assert sum(better) >= 2
    assert sum(row["seconds"] for row in found.values()) < 20 * 60
