"""What every layer of the family keeps, whatever its technique is."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import layers
from mcdrop.program.drawn import drawn
from tests.layers.family import FAMILY, Member, net

members = pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY.keys())
# Eager draws and traced ones round alike; batched products do not.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def test_every_layer_is_here() -> None:
    made = {name.partition("-")[0] for name in FAMILY}
    exported = {
        name
        for name in layers.__all__
        if inspect.isclass(getattr(layers, name)) and issubclass(getattr(layers, name), nn.Module)
    }
    assert made == exported


@cache
def traced(member: Member) -> mcdrop.Program:
    """The program of `net(member)`, in training mode; captures take most of the time here."""
    return mcdrop.capture(net(member), member.example(5))


@members
def test_evaluation_is_one_answer_and_training_is_not(member: Member) -> None:
    model, x = net(member), member.example(5)
    torch.manual_seed(1)
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)


@members
def test_state_copies_and_representation(member: Member) -> None:
    model, x = net(member).eval(), member.example(3)
    other = net(member, seed=7).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), model(x))
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x))
    assert model.site.extra_repr()
    assert type(model.site).__name__ in repr(model)


@members
def test_trains(member: Member) -> None:
    model, x = net(member), member.example(4)
    loss = model(x).square().mean() + mcdrop.regularization(model)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@members
def test_bfloat16(member: Member) -> None:
    model, x = net(member).to(torch.bfloat16), member.example(4, torch.bfloat16)
    for mode in (True, False):
        y = model.train(mode)(x)
        assert y.dtype == torch.bfloat16
        assert y.isfinite().all()


@members
def test_capture_finds_it(member: Member) -> None:
    model, x = net(member), member.example(3)
    program = mcdrop.capture(model, x)
    assert tuple(site.kind for site in program.sites) == member.kinds
    assert all(site.name.startswith("site") for site in program.sites)
    rate = getattr(model.site, "p", None)
    if rate is not None:
        assert [site.p for site in program.sites] == pytest.approx([rate] * len(program.sites))
    assert model.training


@members
@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize("sampling", ["balanced", "iid"])
def test_engines_agree(member: Member, masks: str, sampling: str) -> None:
    model, x = net(member), member.example(5)
    program = traced(member)
    found = {
        engine: mcdrop.MCDropout(
            model if engine == "eager" else program,
            x if engine == "eager" else None,
            task="regression",
            engine=engine,
            masks=masks,
            sampling=sampling,
        )
        for engine in ("loop", "batched", "eager", "auto")
    }
    expected = found["loop"].sample(x, samples=20, seed=3)
    assert expected.std(0).max() > 1e-3
    for name, mc in found.items():
        torch.testing.assert_close(mc.sample(x, samples=20, seed=3), expected, **CLOSE, msg=name)
        torch.testing.assert_close(mc.deterministic(x), model.eval()(x), **CLOSE)
        model.train()


@members
def test_travels_in_an_artifact(member: Member, tmp_path: Path) -> None:
    x = member.example(3)
    mc = mcdrop.MCDropout(traced(member), task="regression")
    mc.save(tmp_path / "1", name="net")
    loaded = mcdrop.load(tmp_path / "1")
    torch.testing.assert_close(
        loaded.sample(x, samples=20, seed=1), mc.sample(x, samples=20, seed=1), **CLOSE
    )
    torch.testing.assert_close(loaded.deterministic(x), mc.deterministic(x), **CLOSE)
    assert [site.kind for site in loaded.program.sites] == list(member.kinds)


@members
def test_a_site_that_is_left_out_is_off(member: Member) -> None:
    model, x = net(member), member.example(3)
    both = nn.Sequential(model, nn.Dropout(0.3))
    mc = mcdrop.MCDropout(both, x, task="regression", sites=["1"])
    samples = mc.sample(x, samples=16)
    kept = samples != 0
    expected = (model.eval()(x) / 0.7).expand_as(samples)
    torch.testing.assert_close(samples[kept], expected[kept], **CLOSE)


@members
def test_gradients_are_those_of_the_masks_that_were_drawn(member: Member) -> None:
    model = net(member).double()
    if member.words is None:
        wanted = [member.example(2, torch.float64).requires_grad_()]
    else:
        wanted = [model.site.embedding.weight.detach().clone().requires_grad_()]
    words = member.example(2)

    def run(value: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        if member.words is None:
            return model(value)
        weights = {"site.embedding.weight": value}
        return torch.func.functional_call(model, weights, words)

    assert torch.autograd.gradcheck(run, wanted)


@members
def test_gradients_of_parameters(member: Member) -> None:
    """Those of rates, variances and noise among them, masks held."""
    model, x = net(member).double(), member.example(2)
    x = x if member.words else x.double()
    held = {name: p.detach().clone() for name, p in model.named_parameters()}
    names = [name for name in held if name.startswith("site.")]
    if not names:
        return

    def run(*values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        return torch.func.functional_call(model, held | dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, [held[name].requires_grad_() for name in names])


@members
def test_the_thinned_engine_agrees_or_says_why_not(member: Member) -> None:
    x = member.example(5)
    loop = mcdrop.MCDropout(traced(member), task="regression", engine="loop")
    try:
        thinned = mcdrop.MCDropout(traced(member), task="regression", engine="thinned")
    except mcdrop.InputError as error:
        assert "finds no site to thin" in str(error)  # noqa: PT017 (one of two outcomes)
        return
    torch.testing.assert_close(
        thinned.sample(x, samples=20, seed=3), loop.sample(x, samples=20, seed=3), **CLOSE
    )


RATED = [
    layers.StandardDropout,
    layers.Dropout,
    layers.SpatialDropout,
    layers.LockedDropout,
    layers.GaussianDropout,
    layers.DropBlock,
    layers.DropPath,
    layers.AttentionDropout,
    layers.AttentionDropLayer,
    lambda p: layers.EmbeddingDropout(nn.Embedding(3, 2), p),
    lambda p: layers.DropConnect(nn.Linear(2, 2), p),
    lambda p: layers.GroupDropout(2, p),
    lambda p: layers.HeadDropout(2, p),
    lambda p: layers.ConcreteDropout(nn.Linear(2, 2), 10, p),
    lambda p: layers.ConcreteSpatialDropout(nn.Conv2d(2, 2, 1), 10, p),
    lambda p: layers.VariationalDropout(2, 2, rows=10, p=p),
]


@pytest.mark.parametrize("make", RATED)
@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan"), "0.5", None, True])
def test_a_rate_that_is_no_probability_is_refused(make: Callable, p: object) -> None:
    with pytest.raises(mcdrop.InputError, match="probability to drop, must be"):
        make(p)


@pytest.mark.parametrize(
    "make", [layers.GaussianDropout, layers.DropBlock, layers.AttentionDropout, *RATED[-3:-1]]
)
def test_where_something_must_be_kept_one_is_refused(make: Callable) -> None:
    with pytest.raises(mcdrop.InputError, match="below 1; got 1"):
        make(1.0)


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (layers.SpatialDropout(0.5, 2), (2, 3, 4), r"dims=2 takes \[B, C\] and 2 axes.*got 3"),
        (layers.LockedDropout(), (2, 3), "three axes; got 2"),
        (layers.EmbeddingDropout(nn.Embedding(5, 2)), (2, 3, 4), r"words \[B, T\] or \[B\]; got 3"),
        (layers.DropBlock(), (2, 3, 4), r"takes \[B, C, H, W\]; got 3"),
        (layers.HeadDropout(3), (2, 4, 7), r"a multiple of 3 heads; got shape \[2, 4, 7\]"),
        (layers.GroupDropout(3), (2, 7), r"into 3 groups; got shape \[2, 7\]"),
        (layers.GroupDropout(2, dim=0), (2, 8), "behind the batch"),
        (layers.AttentionDropLayer(), (2, 3, 4), r"takes \[B, C, H, W\]; got 3"),
        (layers.AttentionDropout(dim=2), (2, 3), r"no axis 2 along which to rank \[2, 3\]"),
        (layers.DropPath(), (), "a tensor without axes"),
        (layers.ConcreteSpatialDropout(nn.Conv2d(2, 2, 1), 9), (2, 5, 5), "2 axes.*got 3 axes"),
        (layers.MetaDropout(nn.Linear(3, 4), nn.Linear(3, 1)), (2, 3), r"\[2, 4\]; got \[2, 1\]"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_shape_that_does_not_fit_is_refused(
    layer: nn.Module, shape: tuple[int, ...], said: str
) -> None:
    x = torch.zeros(shape)
    with pytest.raises(mcdrop.InputError, match=said):
        layer(x.long() if isinstance(layer, layers.EmbeddingDropout) else x)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layers.SpatialDropout(dims=4), "dims must be an integer, from 1 to 3; got 4"),
        (lambda: layers.DropBlock(block_size=0), "block_size must be an integer, at least 1"),
        (lambda: layers.DropConnect(nn.Linear(2, 2), weights=["w"]), "parameters, weight, bias"),
        (lambda: layers.AttentionDropout(strength=2), "strength must be a number from 0 to 1"),
        (lambda: layers.AttentionDropLayer(gamma=-1), "gamma must be a number from 0 to 1"),
        (lambda: layers.ConcreteDropout(nn.ReLU(), 10), "layer must have a weight; ReLU has none"),
        (lambda: layers.ConcreteDropout(nn.Linear(2, 2), 0), "rows must be an integer"),
        (lambda: layers.ConcreteDropout(nn.Linear(2, 2), 9, loss="mse"), "loss must be one of"),
        (lambda: layers.ConcreteDropout(nn.LayerNorm(4), 9), r"weight \[out, in\]; got LayerNorm"),
        (lambda: layers.ConcreteDropout(nn.Conv2d(2, 2, 1), 9), "put ConcreteSpatialDropout"),
        (lambda: layers.ConcreteSpatialDropout(nn.Linear(2, 2), 9), "must be a convolution"),
        (lambda: layers.AdaptiveDropout(0.1), "layer must be a torch.nn.Module; got 0.1"),
        (lambda: layers.AdaptiveDropout(nn.Linear(2, 2), torch.relu), "activation must be a torch"),
        (
            lambda: layers.AdaptiveDropout(nn.Linear(2, 2), alpha=float("nan")),
            "alpha must be a fin",
        ),
        (lambda: layers.AdaptiveDropout(nn.Linear(2, 2), beta="1"), "beta must be a finite number"),
        (lambda: layers.AttentionDropout(dim=None), "dim must be an integer; got None"),
        (lambda: layers.GroupDropout(2, dim=1.5), "dim must be an integer; got 1.5"),
        (
            lambda: layers.SpatialDropout(dims=True),
            "dims must be an integer, from 1",
        ),
        (lambda: layers.EmbeddingDropout(0.2), "embedding must be a torch.nn.Embedding; got 0.2"),
        (lambda: layers.DropConnect(3), "layer must be a torch.nn.Module; got 3"),
        (lambda: layers.DropConnect(nn.Linear(2, 2), weights=None), "weights must be names"),
        (lambda: layers.MetaDropout(None), "layer must be a torch.nn.Module; got None"),
        (lambda: layers.MetaDropout(nn.Sequential(nn.Linear(2, 2))), "noise must be given for Seq"),
        (lambda: layers.SparseVariationalDropout(2, 2, rows=9, log_sigma2="x"), "log_sigma2 must"),
        (
            lambda: layers.SparseVariationalDropout(2, 2, rows=9, threshold=float("nan")),
            "threshold",
        ),
        (lambda: layers.SparseVariationalDropout(2, 0, rows=9), "out_features must be an integer"),
        (lambda: layers.VariationalDropout(2.5, 2, rows=9), "in_features must be an integer"),
        (lambda: layers.VariationalDropout(2, 2, "no", rows=9), "bias must be True or False"),
        (lambda: layers.VariationalLSTM(2, 2, bias="yes"), "bias must be True or False; got 'yes'"),
        (lambda: layers.VariationalGRU(2, 2, bidirectional=2), "bidirectional must be True or Fal"),
        (lambda: layers.VariationalLSTM(2, 2, tied="no"), "tied must be True or False; got 'no'"),
        (lambda: mcdrop.regularization(3), "model must be a torch.nn.Module; got 3"),
        (lambda: layers.VariationalDropout(2, 2, rows=9, per="row"), "per must be one of"),
        (lambda: layers.VariationalDropout(2, 2, rows=9, p=0.6), "at most 0.5; got 0.6"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(make: Callable, said: str) -> None:
    with pytest.raises(mcdrop.InputError, match=said):
        make()


def test_importances_have_the_shape_of_the_units() -> None:
    with pytest.raises(mcdrop.InputError, match=r"the shape of x, \[2, 3\]; got \[3\]"):
        layers.AttentionDropout()(torch.zeros(2, 3), torch.zeros(3))


def test_a_weight_that_a_parametrization_computes_is_named() -> None:
    linear = nn.Linear(2, 2)
    layer = layers.DropConnect(linear, 0.5)
    nn.utils.parametrizations.weight_norm(linear)
    with pytest.raises(mcdrop.InputError, match=r"no parameter weight any more.*original0"):
        layer(torch.zeros(1, 2))


@pytest.mark.parametrize("rnn", [layers.VariationalLSTM, layers.VariationalGRU])
@pytest.mark.parametrize("training", [False, True])
def test_what_a_recurrent_layer_cannot_read_is_refused(
    rnn: type[nn.Module], training: bool
) -> None:
    layer, x = rnn(3, 4).train(training), torch.zeros(5, 2, 3)
    for lengths in ("ab", [[1, 2], [3]], [1, None], [0, 5], [1.0, 2.0]):
        with pytest.raises(mcdrop.InputError, match="lengths must be whole numbers from 1 to 5"):
            layer(x, lengths=lengths)
    for wrong in ([[1.0]], x.numpy(), x.long()):
        with pytest.raises(mcdrop.InputError, match="takes a floating tensor or a PackedSequence"):
            layer(wrong)
    h = torch.zeros(1, 2, 4)
    for other in (None, h.double(), h.long(), h[:, :1]):
        hx = (h, other) if rnn is layers.VariationalLSTM else other
        if hx is not None:
            with pytest.raises(mcdrop.InputError, match="takes states"):
                layer(x, hx)


@pytest.mark.parametrize("term", [1.0, torch.zeros(2), None])
def test_a_term_of_the_loss_is_a_scalar(term: object) -> None:
    class Odd(nn.Module):
        def regularization(self) -> object:
            return term

    with pytest.raises(mcdrop.InputError, match=r"regularization\(\) of 0 \(Odd\) must return"):
        mcdrop.regularization(nn.Sequential(Odd()))


def test_noise_that_drawn_cannot_sample_is_refused() -> None:
    """Users' layers may say what they drew, too; of what capture can draw."""

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noise = torch.empty_like(x).exponential_()
            return drawn(x * noise, x, noise, "meta") if self.training else x

    with pytest.raises(mcdrop.CaptureError, match="rand, rand_like, randn or randn_like"):
        mcdrop.capture(Odd(), torch.zeros(2, 3))


def test_a_layer_of_a_users_own_can_say_what_it_drew() -> None:
    class Halving(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.training:
                return x
            noise = torch.rand_like(x)
            return drawn(x * torch.where(noise < 0.5, 0.5, 3.0), x, noise, "adaptive", 0.25)

    x = torch.ones(2, 3)
    mc = mcdrop.MCDropout(nn.Sequential(Halving()), x, task="regression")
    assert [(site.kind, site.p) for site in mc.program.sites] == [("adaptive", 0.25)]
    assert set(mc.sample(x, samples=16).unique().tolist()) == {0.5, 3.0}
    assert torch.equal(mc.deterministic(x), x)


def test_a_trained_rate_is_captured_as_it_is() -> None:
    layer = layers.ConcreteDropout(nn.Linear(3, 2), 10, p=0.1)
    with torch.no_grad():
        layer.logit.fill_(0.0)
    assert [site.p for site in mcdrop.capture(layer, torch.zeros(1, 3)).sites] == [0.5]
