"""The identity of each technique (see `shared/dropout.md`), by drawing.

Frequencies and means are held against what they must be by z-scores under 5: with a normal law that
happens by chance to one number in 1.7 million, and seeds are fixed. Variances too, with the error
that the fourth moment gives them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop import layers

DRAWS = 20_000
_LIMIT = 5.0  # of a z-score


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def assert_mean(values: Tensor, expected: Tensor | float) -> None:
    """Means over axis 0 are as expected."""
    wide = values.double()
    error = wide.std(0) / math.sqrt(len(wide))
    assert ((wide.mean(0) - expected).abs() <= _LIMIT * error + 1e-6).all()


def assert_variance(values: Tensor, expected: Tensor | float) -> None:
    """Variances over axis 0 are as expected."""
    deviations = values.double() - values.double().mean(0)
    variance = deviations.square().mean(0)
    error = ((deviations**4).mean(0) - variance.square()).clamp_min(0).sqrt() / len(values) ** 0.5
    assert ((variance - expected).abs() <= _LIMIT * error + 1e-6).all()


def assert_frequency(events: Tensor, probability: Tensor | float) -> None:
    """Events along axis 0 happen as often as their probability says."""
    p = torch.as_tensor(probability, dtype=torch.float64)
    error = (p * (1.0 - p) / len(events)).sqrt()
    assert ((events.double().mean(0) - p).abs() <= _LIMIT * error + 1e-12).all()


X = torch.tensor([-2.0, -0.3, 0.0, 0.7, 3.0])
MANY = X.expand(DRAWS, -1)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_standard_dropout(p: float) -> None:
    layer = layers.StandardDropout(p)
    y = layer(MANY)
    assert ((y == 0) | (y - MANY).abs().lt(1e-6)).all()
    assert_mean(y, (1 - p) * X)
    assert_variance(y, p * (1 - p) * X**2)
    torch.testing.assert_close(layer.eval()(X), (1 - p) * X)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_inverted_dropout(p: float) -> None:
    layer = layers.Dropout(p)
    y = layer(MANY)
    assert_mean(y, X)
    assert_variance(y, p / (1 - p) * X**2)
    assert torch.equal(layer.eval()(X), X)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_gaussian_dropout(p: float) -> None:
    layer = layers.GaussianDropout(p)
    y = layer(MANY)
    assert_mean(y, X)
    assert_variance(y, p / (1 - p) * X**2)
    assert torch.equal(layer.eval()(X), X)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_spatial_dropout_takes_channels_whole(dims: int) -> None:
    y = layers.SpatialDropout(0.3, dims)(torch.ones(4_000, 5, *[2] * dims)).flatten(2)
    assert (y == y[:, :, :1]).all()
    kept = y[:, :, 0] != 0
    assert_frequency(kept, 0.7)
    assert_frequency(kept[:, 0] & kept[:, 1], 0.49)  # channels are alone
    assert_frequency(kept[1:, 0] & kept[:-1, 0], 0.49)  # and rows


def test_locked_dropout_does_not_vary_over_time() -> None:
    for batch_first in (True, False):
        layer = layers.LockedDropout(0.3, batch_first)
        y = layer(torch.ones(4_000, 6, 5) if batch_first else torch.ones(6, 4_000, 5))
        rows = y if batch_first else y.transpose(0, 1)
        assert (rows == rows[:, :1]).all()
        assert_frequency(rows[:, 0] != 0, 0.7)
        assert_frequency((rows[:, 0, 0] != 0) & (rows[:, 0, 1] != 0), 0.49)


def test_occurrences_of_a_word_share_their_fate() -> None:
    embedding = nn.Embedding(6, 3)
    words = torch.tensor([2, 5, 2, 0, 2]).expand(4_000, -1)
    y = layers.EmbeddingDropout(embedding, 0.3)(words)
    kept = (y != 0).any(-1)
    assert (kept[:, 0] == kept[:, 2]).all()
    assert (kept[:, 0] == kept[:, 4]).all()
    assert_frequency(kept[:, 0], 0.7)
    assert_frequency(kept[:, 0] & kept[:, 1], 0.49)
    torch.testing.assert_close(y[kept], embedding(words)[kept] / 0.7)


@pytest.mark.parametrize("per", ["weight", "unit", "layer"])
def test_variational_dropout_has_the_moments_of_drawn_weights(per: str) -> None:
    layer = layers.VariationalDropout(4, 3, rows=10, p=0.3, per=per)
    with torch.no_grad():
        layer.log_alpha += 0.3 * torch.randn(layer.log_alpha.shape)
        alpha = layer.alpha().expand_as(layer.weight)
        x = torch.randn(4)
        y = layer(x.expand(DRAWS, -1))
        noise = torch.randn(DRAWS, 3, 4)
        drawn = F.linear(x, layer.weight * 0, layer.bias) + (
            layer.weight * (1 + alpha.sqrt() * noise) * x
        ).sum(-1)
        mean, variance = F.linear(x, layer.weight, layer.bias), (alpha * layer.weight**2) @ x**2
    for values in (y, drawn):
        assert_mean(values, mean)
        assert_variance(values, variance)


def test_sparse_variational_dropout_has_the_moments_of_drawn_weights() -> None:
    layer = layers.SparseVariationalDropout(4, 3, rows=10, log_sigma2=-2.0)
    with torch.no_grad():
        x = torch.randn(4)
        y = layer(x.expand(DRAWS, -1))
        sigma = (0.5 * layer.log_sigma2).exp()
        drawn = F.linear(x, layer.weight * 0, layer.bias) + (
            (layer.weight + sigma * torch.randn(DRAWS, 3, 4)) * x
        ).sum(-1)
        mean, variance = F.linear(x, layer.weight, layer.bias), sigma**2 @ x**2
    for values in (y, drawn):
        assert_mean(values, mean)
        assert_variance(values, variance)


def test_sparse_variational_dropout_leaves_out_what_is_noise() -> None:
    layer = layers.SparseVariationalDropout(4, 3, rows=10, log_sigma2=-8.0, threshold=3.0)
    with torch.no_grad():
        layer.weight[0] = 1e-3  # log alpha is 5.8
        layer.weight[1:] = 1.0
        y = layer.eval()(torch.ones(4))
    assert layer.sparsity() == pytest.approx(1 / 3)
    torch.testing.assert_close(y, layer.bias + torch.tensor([0.0, 4.0, 4.0]))


def _divergence(alpha: float) -> float:
    """KL of N(t, alpha t²) from the log-uniform prior, up to a constant, by integration."""
    # E log|1 + sqrt(alpha) e|: the singularity is integrable, and lies between two nodes
    e = np.linspace(-12.0, 12.0, 2_400_001)[:-1] + 5e-6
    density = np.exp(-0.5 * e**2) / math.sqrt(2 * math.pi)
    logarithm = np.log(np.abs(1 + math.sqrt(alpha) * e))
    return float(-0.5 * math.log(alpha) + (density * logarithm).sum() * 1e-5)


def _added(layer: nn.Module, **values: float) -> float:
    with torch.no_grad():
        for name, value in values.items():
            getattr(layer, name).fill_(value)
    return layers.regularization(layer).item()


def test_the_divergence_of_variational_dropout_is_the_integral() -> None:
    """Up to the constant that it leaves out, within 0.05 nats for alpha from 0.01 to 1."""
    layer = layers.VariationalDropout(1, 1, rows=1)
    alphas = [0.01, 0.05, 0.2, 0.5, 0.8, 1.0]
    found = [_added(layer, log_alpha=math.log(alpha)) for alpha in alphas]
    gaps = np.array(found) - [_divergence(alpha) for alpha in alphas]
    assert np.ptp(gaps) < 0.05
    assert _added(layer, log_alpha=3.0) == pytest.approx(found[-1])  # alpha is kept at 1
    # the constants of Kingma et al., which no other ones give at both
    assert found[-1] == pytest.approx(-(1.16145124 - 1.50204118 + 0.58629921), abs=1e-6)
    half = -(0.5 * math.log(0.5) + 1.16145124 / 2 - 1.50204118 / 4 + 0.58629921 / 8)
    assert found[3] == pytest.approx(half, abs=1e-6)


def test_an_alpha_beyond_one_comes_back() -> None:
    """A gradient that leads further out is stopped there, one that leads back is not."""
    layer = layers.VariationalDropout(4, 3, rows=10)
    with torch.no_grad():
        layer.log_alpha.fill_(0.1)
    layers.regularization(layer).backward()  # the prior wants more noise
    assert (layer.log_alpha.grad == 0).all()
    torch.manual_seed(0)
    layer(torch.ones(2_000, 4)).square().mean().backward()  # a squared error wants less
    assert (layer.log_alpha.grad > 0).all()


def test_the_divergence_of_sparse_variational_dropout_is_the_integral() -> None:
    """Up to a constant, within 0.02 nats for alpha from 0.01 to 1,000; zero where all is noise."""
    layer = layers.SparseVariationalDropout(1, 1, rows=1)
    alphas = [0.01, 0.1, 0.5, 1.0, 3.0, 30.0, 1000.0]
    found = [_added(layer, weight=1.0, log_sigma2=math.log(alpha)) for alpha in alphas]
    gaps = np.array(found) - [_divergence(alpha) for alpha in alphas]
    assert np.ptp(gaps) < 0.02
    assert _added(layer, weight=0.0, log_sigma2=2.0) == pytest.approx(0.0, abs=1e-3)
    # the constants of Molchanov et al., at log alpha 0 and 1
    for log_alpha in (0.0, 1.0):
        sigmoid = 1 / (1 + math.exp(-(1.87320 + 1.48695 * log_alpha)))
        expected = 0.63576 * (1 - sigmoid) + 0.5 * math.log1p(math.exp(-log_alpha))
        assert _added(layer, weight=1.0, log_sigma2=log_alpha) == pytest.approx(expected, abs=1e-5)


def test_divergences_count_every_weight_and_are_for_a_row() -> None:
    one = _added(layers.VariationalDropout(1, 1, rows=1), log_alpha=-1.0)
    for per in ("weight", "unit", "layer"):
        many = layers.VariationalDropout(5, 3, rows=10, per=per)
        assert _added(many, log_alpha=-1.0) == pytest.approx(15 / 10 * one, rel=1e-5)


def test_adaptive_dropout_follows_the_activation() -> None:
    layer = layers.AdaptiveDropout(nn.Linear(3, 6), nn.Tanh(), alpha=2.0, beta=-0.5)
    with torch.no_grad():
        x = torch.randn(3)
        z = layer.layer(x)
        kept = layer(x.expand(DRAWS, -1)) != 0
        keep = torch.sigmoid(2.0 * z - 0.5)
        assert_frequency(kept, keep)
        torch.testing.assert_close(layer.eval()(x), torch.tanh(z) * keep)
        order = z.argsort()
        assert (layer.keep_probability(z)[order].diff() > 0).all()


def test_adaptive_dropout_that_follows_nothing_has_one_rate() -> None:
    layer = layers.AdaptiveDropout(nn.Linear(3, 6), alpha=0.0, beta=1.0)
    with torch.no_grad():
        kept = layer(torch.randn(DRAWS, 3)) != 0
    assert_frequency(kept, 1 / (1 + math.exp(-1.0)))


def test_cold_concrete_dropout_is_dropout() -> None:
    inner = nn.Linear(1, 1, bias=False)
    nn.init.ones_(inner.weight)
    layer = layers.ConcreteDropout(inner, rows=10, p=0.3, temperature=1e-3)
    with torch.no_grad():
        y = layer(torch.ones(DRAWS, 1))
    between = ((y >= 1e-3) & (y <= 1 / 0.7 - 1e-3)).squeeze(1)
    # z is between where logit u is within t · logit(1 - 0.7e-3) of -logit p
    centre, margin = math.log(0.7 / 0.3), 1e-3 * math.log((1 - 0.7e-3) / 0.7e-3)
    low, high = (1 / (1 + math.exp(-(centre + side * margin))) for side in (-1, 1))
    assert_frequency(between, high - low)
    assert_frequency(y > 0.5, 0.7)


def test_concrete_dropout_is_even_at_the_rate() -> None:
    """A relaxed mask is above one half as often as dropout keeps, at any temperature."""
    inner = nn.Linear(1, 1, bias=False)
    nn.init.ones_(inner.weight)
    for temperature in (0.1, 2 / 3):
        layer = layers.ConcreteDropout(inner, rows=10, p=0.3, temperature=temperature)
        with torch.no_grad():
            assert_frequency(layer(torch.ones(DRAWS, 1)) > 0.5 / 0.7, 0.7)


@pytest.mark.parametrize(("loss", "factor"), [("squared_error", 2.0), ("cross_entropy", 1.0)])
def test_the_regulariser_of_concrete_dropout(loss: str, factor: float) -> None:
    linear = nn.Linear(7, 4)
    layer = layers.ConcreteDropout(linear, rows=50, p=0.2, loss=loss, length_scale=0.3)
    weights = 0.09 * linear.weight.square().sum().item() / 0.8
    spread = factor * 7 * (0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert layer.regularization().item() == pytest.approx((weights + spread) / 50, rel=1e-5)
    conv = nn.Conv2d(3, 4, 3)
    spatial = layers.ConcreteSpatialDropout(conv, rows=50, p=0.2, loss=loss, length_scale=0.3)
    weights = 0.09 * conv.weight.square().sum().item() / 0.8
    spread *= 3 / 7
    assert spatial.regularization().item() == pytest.approx((weights + spread) / 50, rel=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv1d(8, 16, 3),
        nn.Conv2d(8, 16, 3, groups=8),
        nn.Conv2d(8, 16, 3, groups=2),
        nn.ConvTranspose2d(8, 16, 3),
        nn.ConvTranspose3d(8, 32, 3, groups=4),
    ],
    ids=str,
)
def test_channels_are_counted_whatever_the_convolution(conv: nn.Module) -> None:
    """Of 8 inputs each, with weights of zero only the rates' entropies are left."""
    layer = layers.ConcreteSpatialDropout(conv, rows=1, p=0.3, loss="squared_error")
    spread = 2.0 * 8 * (0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    with torch.no_grad():
        conv.weight.zero_()
    assert layer.regularization().item() == pytest.approx(spread, rel=1e-5)


def test_concrete_dropout_is_even_at_a_small_rate() -> None:
    inner = nn.Linear(1, 1, bias=False)
    nn.init.ones_(inner.weight)
    layer = layers.ConcreteDropout(inner, rows=10, p=0.01, temperature=0.1)
    with torch.no_grad():
        assert_frequency(layer(torch.ones(DRAWS, 1)) > 0.5 / 0.99, 0.99)


def test_concrete_spatial_dropout_takes_channels_whole() -> None:
    inner = nn.Conv2d(4, 4, 1, bias=False)
    nn.init.dirac_(inner.weight)
    layer = layers.ConcreteSpatialDropout(inner, rows=10, p=0.3)
    with torch.no_grad():
        y = layer(torch.ones(50, 4, 3, 5)).flatten(2)
    torch.testing.assert_close(y, y[:, :, :1].expand_as(y))
    assert len(y[:, :, 0].flatten().round(decimals=4).unique()) > 150


def _learned_rate(rows: int, noise: float, seed: int) -> list[float]:
    """Rates after training on so many rows of a noisy sine; every rate seen on the way."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    x = 4 * torch.rand(rows, 1, generator=generator) - 2
    y = torch.sin(2 * x) + noise * torch.randn(rows, 1, generator=generator)
    first = nn.Sequential(nn.Linear(1, 32), nn.ReLU())
    layer = layers.ConcreteDropout(nn.Linear(32, 2), rows=rows, p=0.1, length_scale=1e-2)
    net = nn.Sequential(first, layer)
    optimiser = torch.optim.Adam(
        [
            {"params": [p for n, p in net.named_parameters() if "logit" not in n], "lr": 1e-2},
            {"params": [layer.logit], "lr": 5e-2},
        ]
    )
    rates = []
    for _ in range(500):
        batch = torch.randint(rows, (64,), generator=generator)
        mean, log_variance = net(x[batch]).chunk(2, 1)
        loss = (
            0.5 * (y[batch] - mean).square() * (-log_variance).exp() + 0.5 * log_variance
        ).mean()
        optimiser.zero_grad()
        (loss + layers.regularization(net)).backward()
        optimiser.step()
        rates.append(layer.p)
    return rates


@pytest.mark.slow
def test_the_rate_of_concrete_dropout_falls_with_rows_and_rises_with_noise() -> None:
    """For each of three seeds: few rows double the rate, noise has it ten times as large."""
    for seed in range(3):
        few, many = _learned_rate(60, 0.1, seed), _learned_rate(6_000, 0.1, seed)
        quiet, noisy = _learned_rate(300, 0.05, seed), _learned_rate(300, 1.0, seed)
        assert few[-1] > 2.0 * many[-1]
        assert noisy[-1] > 10.0 * quiet[-1]
        for rates in (few, many, quiet, noisy):
            assert min(rates) > 0.0
            assert max(rates) < 1.0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_drop_block_drops_squares(size: int) -> None:
    layer, x = layers.DropBlock(0.25, size), torch.ones(4_000, 1, 6, 7)
    y = layer(x)
    dropped = (y == 0).float()
    # what is dropped is the union of the squares that lie in it
    squares = 1.0 - F.max_pool2d(1.0 - dropped, size, stride=1)
    covered = F.max_pool2d(F.pad(squares, [size - 1] * 4), size, stride=1)
    assert torch.equal(covered, dropped)
    tall, wide = 6 - size + 1, 7 - size + 1
    gamma = 0.25 / size**2 * 42 / (tall * wide)
    places = F.conv2d(
        F.pad(torch.ones(1, 1, tall, wide), [size - 1] * 4), torch.ones(1, 1, size, size)
    )
    assert_frequency(dropped, (1.0 - (1.0 - gamma) ** places[0].double()))
    torch.testing.assert_close(y.mean((1, 2, 3)), torch.ones(4_000))


def test_drop_path_takes_rows_whole() -> None:
    y = layers.DropPath(0.3)(torch.ones(4_000, 3, 2)).flatten(1)
    assert (y == y[:, :1]).all()
    assert_frequency(y[:, 0] != 0, 0.7)
    assert_mean(y, 1.0)


def test_heads_and_groups_go_together() -> None:
    for y in (
        layers.HeadDropout(3, 0.3)(torch.ones(4_000, 3, 2, 4)),
        layers.HeadDropout(3, 0.3)(torch.ones(4_000, 2, 12)).unflatten(2, (3, 4)).transpose(1, 2),
        layers.GroupDropout(3, 0.3)(torch.ones(4_000, 12)).unflatten(1, (3, 4)),
        layers.GroupDropout(3, 0.3, dim=-1)(torch.ones(4_000, 1, 12)).unflatten(2, (3, 4))[:, 0],
    ):
        together = y.flatten(2)
        assert (together == together[:, :, :1]).all()
        kept = together[:, :, 0] != 0
        assert_frequency(kept, 0.7)
        assert_frequency(kept[:, 0] & kept[:, 2], 0.49)


def test_drop_connect_drops_weights_for_all_rows_alike() -> None:
    inner = nn.Linear(40, 50, bias=False)
    nn.init.ones_(inner.weight)
    layer = layers.DropConnect(inner, 0.3)
    weights = []
    for _ in range(20):
        twice = layer(torch.eye(40).repeat(2, 1))  # its rows are the columns of the weight
        assert torch.equal(twice[:40], twice[40:])
        weights.append(twice[:40])
    kept = torch.stack(weights).flatten() != 0
    assert_frequency(kept, 0.7)
    torch.testing.assert_close(
        torch.stack(weights).flatten()[kept], torch.tensor(1 / 0.7).expand(int(kept.sum()))
    )


@pytest.mark.parametrize("p", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_attention_dropout_keeps_what_matters_and_the_mean_rate(p: float, strength: float) -> None:
    layer = layers.AttentionDropout(p, strength)
    importance = torch.rand(7).double()
    rates = layer.rates(importance)
    assert rates.mean().item() == pytest.approx(p)
    ordered = rates[importance.argsort()]
    assert (ordered.diff() < 0).all() if strength else (ordered == p).all()
    y = layer(importance.expand(DRAWS, -1))
    assert_frequency(y != 0, 1.0 - rates)
    assert_mean(y, importance)


def test_units_that_matter_alike_are_dropped_alike() -> None:
    layer = layers.AttentionDropout(0.3, 1.0)
    assert layer.rates(torch.ones(4)).tolist() == pytest.approx([0.3] * 4)
    rates = layer.rates(torch.tensor([2.0, 1.0, 2.0, 5.0]))
    assert rates[0] == rates[2]
    assert rates.mean().item() == pytest.approx(0.3)
    assert rates[1] > rates[0] > rates[3]


def test_what_attention_masks_is_not_ranked() -> None:
    """Of each line of causal attention what can be seen is dropped at the mean rate p."""
    weights = torch.rand(6, 6).tril() + torch.eye(6)
    shown = weights > 0
    with torch.no_grad():
        y = layers.AttentionDropout(0.3, 1.0)(weights.expand(DRAWS, -1, -1))
    for line in range(6):
        kept = y[:, line][:, shown[line]] != 0
        # of independent draws, whose variance is largest at a half: five standard errors at most
        assert abs(kept.double().mean().item() - 0.7) < 5 * math.sqrt(0.25 / kept.numel())


def test_the_attention_drop_layer_hides_or_stresses() -> None:
    x = torch.rand(1, 3, 4, 5)
    y = layers.AttentionDropLayer(0.3, gamma=0.8)(x.expand(4_000, -1, -1, -1))
    attention = x.mean(1)
    hidden = x * (attention < 0.8 * attention.max())
    stressed = x * torch.sigmoid(attention)
    hides = (y == hidden).flatten(1).all(1)
    assert ((y - stressed).abs() < 1e-6).flatten(1).all(1)[~hides].all()
    assert_frequency(hides, 0.3)
    assert (hidden == 0).any()


def test_meta_dropout_multiplies_by_a_softplus_of_noise() -> None:
    layer = layers.MetaDropout(nn.Linear(3, 4))
    with torch.no_grad():
        layer.noise.bias.copy_(torch.tensor([-1.0, 0.0, 0.5, 2.0]))
        x = torch.randn(3)
        value, y = layer.layer(x), layer(x.expand(DRAWS, -1))
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        at = F.softplus(layer.noise.bias.double() + torch.from_numpy(nodes)[:, None])
        share = torch.from_numpy(weights / weights.sum())[:, None]
        mean = (share * at).sum(0)
        assert_mean(y / value, mean)
        assert_variance(y / value, (share * at**2).sum(0) - mean**2)
        torch.testing.assert_close(layer.eval()(x), value * F.softplus(layer.noise.bias))


@pytest.mark.parametrize(
    "layer",
    [
        layers.StandardDropout(0.0),
        layers.Dropout(0.0),
        layers.SpatialDropout(0.0),
        layers.GaussianDropout(0.0),
        layers.DropBlock(0.0, 2),
        layers.DropPath(0.0),
        layers.GroupDropout(2, 0.0),
        layers.HeadDropout(4, 0.0),
        layers.AttentionDropout(0.0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_rate_of_zero_drops_nothing(layer: nn.Module) -> None:
    x = torch.randn(3, 4, 5, 6)
    torch.testing.assert_close(layer(x), x)
