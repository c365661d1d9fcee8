"""Models that a reviewer broke earlier versions with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop import tasks


class Model(nn.Module):
    """A forward pass as a function, over named parts."""

    def __init__(self, run: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def _engines(model: nn.Module, x: Tensor, masks: str = "shared", **options: object) -> list[Tensor]:
    """Samples of one seed from the loop, the batched and the eager engine."""
    return [
        mcdrop.MCDropout(model, x, task="regression", masks=masks, engine=engine).sample(
            x, samples=6, seed=2
        )
        for engine in ("loop", "batched", "eager")
    ]


def _agree(outputs: list[Tensor]) -> None:
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], rtol=1e-4, atol=1e-5)


class Moving(nn.Module):
    """Writes into its buffers in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("average", torch.zeros(4))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        if self.training:
            self.average.mul_(0.9).add_(0.1)
        return self.drop(x) + 0.0 * self.average


@pytest.mark.parametrize("engine", ["batched", "eager"])
@pytest.mark.parametrize("kind", ["moving", "spectral_norm"])
def test_buffers_of_the_caller_do_not_move(kind: str, engine: str) -> None:
    if kind == "moving":
        module: nn.Module = Moving()
    else:
        linear = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        module = nn.Sequential(linear, nn.Dropout(0.5))
    module.eval()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    x = torch.randn(2, 4)
    mc = mcdrop.MCDropout(module, x, task="regression", engine=engine)
    first = mc.sample(x, samples=4, seed=1)
    assert torch.equal(mc.sample(x, samples=4, seed=1), first)
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, before[name]), name


@pytest.mark.parametrize("where", ["end", "middle"])
def test_one_row_alone_survives_squeeze(where: str) -> None:
    if where == "end":
        run: Callable[..., Tensor] = lambda s, x: s.b(s.d(s.a(x))).squeeze()  # noqa: E731
    else:
        run = lambda s, x: s.b(s.d(s.a(x).unsqueeze(1).squeeze()))  # noqa: E731
    model = Model(run, a=nn.Linear(4, 8), d=nn.Dropout(0.5), b=nn.Linear(8, 1))
    x = torch.randn(5, 4)
    mc = mcdrop.MCDropout(model, x, task="regression")
    together = mc.sample(x, samples=6)
    torch.testing.assert_close(mc.sample(x[:1], samples=6), together[:, :1])
    torch.testing.assert_close(mc.deterministic(x[:1]), mc.deterministic(x)[:1])
    small = mcdrop.MCDropout(model, x, task="regression", memory_budget=1)
    torch.testing.assert_close(small.sample(x, samples=6), together)
    torch.testing.assert_close(small.deterministic(x), mc.deterministic(x))


def test_a_model_that_mixes_rows_is_refused() -> None:
    model = Model(lambda s, x: s.d(x - x.mean(0)), d=nn.Dropout(0.5))
    with pytest.raises(mcdrop.CaptureError, match="mixes rows"):
        mcdrop.capture(model, torch.randn(5, 4))
    norm = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Dropout(0.5))
    with pytest.raises(mcdrop.CaptureError, match="mixes rows"):
        mcdrop.capture(norm, torch.randn(5, 4))


@pytest.mark.parametrize("kind", ["tokens", "truths"])
def test_rows_are_found_from_a_dull_example(kind: str) -> None:
    def run(s: Model, x: Tensor) -> Tensor:
        b, t = x.shape
        h = s.e(x) if kind == "tokens" else s.e(x[..., None].float())
        flat = s.d(h.transpose(0, 1).reshape(t * b, 6))
        return flat.reshape(t, b, 6).mean(0)

    embed: nn.Module = nn.Embedding(9, 6) if kind == "tokens" else nn.Linear(1, 6)
    model = Model(run, e=embed, d=nn.Dropout(0.5))
    dtype = torch.long if kind == "tokens" else torch.bool
    mc = mcdrop.MCDropout(model, torch.zeros(1, 5, dtype=dtype), task="regression")
    x = (torch.arange(15).reshape(3, 5) % 2).to(dtype)
    together = mc.sample(x, samples=5)
    for row in range(3):
        alone = mc.sample(x[row : row + 1], samples=5)
        torch.testing.assert_close(alone, together[:, row : row + 1])


def test_an_example_that_shows_nothing_of_the_order_is_refused() -> None:
    def run(s: Model, x: Tensor) -> Tensor:
        b, t, d = x.shape
        flat = s.d((x * 0).transpose(0, 1).reshape(t * b, d) + 1.0)
        return flat.reshape(t, b, d).mean(0) + x.mean(1)

    with pytest.raises(mcdrop.CaptureError, match="order of its rows"):
        mcdrop.capture(Model(run, d=nn.Dropout(0.5)), torch.randn(2, 5, 4))


def test_noise_whose_size_is_not_linear_in_the_rows_is_refused() -> None:
    model = Model(
        lambda s, x: s.d(x.repeat(x.shape[0], 1)).reshape(-1, *x.shape).mean(0), d=nn.Dropout(0.5)
    )
    with pytest.raises(mcdrop.CaptureError, match="cannot be told apart"):
        mcdrop.capture(model, torch.randn(2, 4))


def test_attention_without_rows_keeps_samples_apart() -> None:
    def run(s: Model, x: Tensor) -> Tensor:
        w = s.d(s.a.weight)
        return x @ F.scaled_dot_product_attention(w, w, w).T

    _agree(_engines(Model(run, a=nn.Linear(4, 6), d=nn.Dropout(0.3)), torch.randn(3, 4)))


@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_a_learned_query_attends_to_every_row(p: float, masks: str) -> None:
    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Parameter(torch.randn(1, 2, 3, 4))
            self.drop = nn.Dropout(0.2)

        def forward(self, x: Tensor) -> Tensor:
            kv = self.drop(x).unflatten(-1, (2, 4)).transpose(1, 2)
            rate = p if self.training else 0.0
            return F.scaled_dot_product_attention(self.query, kv, kv, dropout_p=rate).flatten(1)

    model, x = Pool(), torch.randn(3, 5, 8)
    loop, batched, eager = _engines(model, x, masks)
    _agree([loop, batched, eager])
    if masks == "independent" and p > 0:
        same = torch.ones(3, 5, 8)
        mc = mcdrop.MCDropout(model, x, task="regression", masks=masks)
        out = mc.sample(same, samples=4)
        assert not torch.allclose(out[:, 0], out[:, 1])


@pytest.mark.parametrize("earlier", [nn.Dropout(1.0), nn.Dropout(0.0)])
def test_rates_of_zero_and_one_take_no_masks_from_others(earlier: nn.Module) -> None:
    model = Model(
        lambda s, x: s.d(s.a(x)) + s.first(x), first=earlier, a=nn.Linear(4, 4), d=nn.Dropout(0.5)
    )
    _agree(_engines(model, torch.randn(3, 4)))


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_cells_behind_dropout(cell: type[nn.Module]) -> None:
    def run(s: Model, x: Tensor) -> Tensor:
        state = None
        for step in s.d(x).unbind(1):
            state = s.cell(step, state)
        return state[0] if isinstance(state, tuple) else state

    model = Model(run, cell=cell(4, 5), d=nn.Dropout(0.4))
    _agree(_engines(model, torch.randn(3, 4, 4)))


def test_writing_through_a_mask_behind_dropout() -> None:
    def run(s: Model, x: Tensor) -> Tensor:
        h = s.d(s.a(x))
        h[h > 0.3] = 7.0
        return h

    _agree(_engines(Model(run, a=nn.Linear(4, 8), d=nn.Dropout(0.5)), torch.randn(3, 4)))


def test_hand_written_masks_may_be_combined() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                return x
            kept = (torch.rand_like(x) < 0.7) & (torch.rand_like(x) < 0.9)
            return x * kept / (0.7 * 0.9)

    mc = mcdrop.MCDropout(Both(), torch.randn(3, 4), task="regression")
    x = torch.randn(3, 4)
    torch.testing.assert_close(mc.deterministic(x), x)
    _agree(_engines(Both(), x))


def test_an_operation_that_vmap_cannot_take_falls_back_to_the_loop() -> None:
    model = Model(lambda s, x: s.b(s.d(x), x), b=nn.Bilinear(4, 4, 2), d=nn.Dropout(0.5))
    x = torch.randn(3, 4)
    torch._C._functorch._set_vmap_fallback_enabled(False)
    try:
        mc = mcdrop.MCDropout(model, x, task="regression")
    finally:
        torch._C._functorch._set_vmap_fallback_enabled(True)
    assert mc.engine == "loop"
    assert mc.sample(x, samples=4).std(0).max() > 0


def test_a_traced_graph_that_cannot_be_used_is_a_capture_error() -> None:
    model = Model(lambda s, x: s.d(x) + x[x > 0].sum(), d=nn.Dropout(0.5))
    with pytest.raises(mcdrop.CaptureError):
        mcdrop.capture(model, torch.randn(3, 4))


@pytest.mark.parametrize("engine", ["loop", "batched", "eager"])
def test_inference_mode_makes_no_difference(engine: str) -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.randn(3, 4)
    outside = mcdrop.MCDropout(model, x, task="regression", engine=engine).sample(x, samples=4)
    with torch.inference_mode():
        mc = mcdrop.MCDropout(model, x, task="regression", engine=engine)
        inside = mc.sample(x.clone(), samples=4)
    torch.testing.assert_close(inside, outside)


def test_tasks_that_do_not_fit_are_refused_at_once() -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), torch.zeros(1, 4)
    for task, match in (
        (tasks.Classification(dim=2), "class axis is 2"),
        ("gaussian", r"halves of its last axis; the output is \[B, 3\]"),
    ):
        with pytest.raises(mcdrop.InputError, match=match):
            mcdrop.MCDropout(net, x, task=task)

    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = F.dropout(x, 0.5, self.training)
            return h[:, 0], h[:, :1]

    with pytest.raises(mcdrop.InputError, match=r"one shape; got \[B\] and \[B, 1\]"):
        mcdrop.MCDropout(Two(), x, task=tasks.Gaussian(entry="0", log_variance="1"))


def test_numbers_of_numpy_are_numbers() -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), torch.zeros(1, 4)
    mc = mcdrop.MCDropout(net, x, task="regression")
    assert mc.predict(x, samples=np.int64(4), seed=np.int64(1)).samples.tolist() == [4]


def test_arguments_of_the_wrong_kind_are_input_errors() -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), torch.zeros(2, 4)
    for bad in (
        {"sites": 3},
        {"dynamic_axes": {"input": {1: 5}}},
        {"memory_budget": "1G"},
        {"device": "meta"},
        {"device": "mps"},
    ):
        with pytest.raises(mcdrop.InputError):
            mcdrop.MCDropout(net, x, task="regression", **bad)
    with pytest.raises(mcdrop.InputError, match="got int"):
        mcdrop.capture(net, 3)
    mc = mcdrop.MCDropout(net, x, task="regression")
    for odd in (x.to_sparse(), x.to("meta")):
        with pytest.raises(mcdrop.InputError, match="sparse or meta"):
            mc.predict(odd)


def test_the_budget_bounds_rows_of_every_engine() -> None:
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 8))
    x = torch.randn(500, 64)
    big = mcdrop.MCDropout(net, x[:2], task="regression")
    for engine in ("loop", "batched"):
        small = mcdrop.MCDropout(
            net, x[:2], task="regression", engine=engine, memory_budget=100_000
        )
        torch.testing.assert_close(small.sample(x, samples=3), big.sample(x, samples=3))
        assert small.plan.rows < 100
        torch.testing.assert_close(small.deterministic(x), big.deterministic(x))
        last = list(small.stream(x, samples=20))[-1]
        torch.testing.assert_close(last.mean, big.predict(x, samples=20).mean)
        assert [p.samples[0].item() for p in small.stream(x, samples=20)] == [16, 20]
