"""Capture leaves everything as it was, and says why when it cannot."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop.capture.example import make_example
from mcdrop.capture.probe import evaluated
from tests import zoo


class LayerDrop(nn.Module):
    """Skips a layer by Python's generator, in training mode only."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        self.drop = nn.Dropout(0.1)
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            draw = random.random() if self.source == "python" else np.random.rand()
            if not self.training or draw > 0.5:
                x = torch.tanh(layer(x))
        return self.drop(x)


class TrainOnly(nn.Module):
    """Does something else in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(4, 4), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.linear(x)) * (3.0 if self.training else 1.0)


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(4, 4), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        if h.sum() > 0:
            h = h * 1.0
        return self.drop(h)


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x.reshape(2, 4))


class Counting(nn.Module):
    """Counts its calls, and holds what cannot be copied cheaply."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.drop(x)


class Tensorless(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "nothing"


def _state(module: nn.Module) -> tuple[object, ...]:
    numpy_state = np.random.get_state()
    return (
        [m.training for m in module.modules()],
        {name: value.clone() for name, value in module.state_dict().items()},
        [name for name, _ in module.named_modules()],
        torch.get_rng_state().tolist(),
        random.getstate(),
        [numpy_state[1].tolist(), *numpy_state[2:]],
    )


def _same(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    weights_a, weights_b = a[1], b[1]
    assert isinstance(weights_a, dict)
    assert isinstance(weights_b, dict)
    equal = all(torch.equal(weights_a[k], weights_b[k]) for k in weights_a)
    return equal and a[:1] + a[2:] == b[:1] + b[2:]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["dropout", "dropout2d", "noise", "lstm", "bert"])
def test_module_flags_and_random_state_are_untouched(name: str, training: bool) -> None:
    module, inputs = zoo.build(name)
    module.train(training)
    before = _state(module)
    program = mcdrop.capture(module, inputs)
    mcdrop.MCDropout(program, task="regression").predict(inputs, samples=4)
    assert _same(before, _state(module))


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (LayerDrop("python"), mcdrop.CaptureError),
        (LayerDrop("numpy"), mcdrop.CaptureError),
        (TrainOnly(), mcdrop.CaptureError),
        (DataDependent(), mcdrop.CaptureError),
    ],
)
def test_untouched_when_capture_fails(module: nn.Module, error: type[Exception]) -> None:
    module.eval()
    before = _state(module)
    with pytest.raises(error):
        mcdrop.capture(module, torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))
    assert _same(before, _state(module))


def test_attributes_of_the_module_are_untouched() -> None:
    module = Counting()
    mcdrop.capture(module, torch.ones(2, 4))
    assert module.calls == 0


def test_capture_from_several_threads() -> None:
    names = ["dropout", "transformer", "lstm", "noise"]
    cases = {name: zoo.build(name) for name in names}
    before = {name: _state(module) for name, (module, _) in cases.items()}
    programs: dict[str, mcdrop.Program] = {}

    def work(name: str) -> None:
        programs[name] = mcdrop.capture(*cases[name])

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        assert programs[name].sites == zoo.program(name).sites
        assert programs[name].graph == zoo.program(name).graph
        assert _same(before[name], _state(cases[name][0]))


def test_later_training_does_not_change_a_program() -> None:
    module, x = zoo.build("dropout")
    program = mcdrop.capture(module, x)
    before = program.run_deterministic({"x": x})["output"]
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1.0)
    assert torch.equal(program.run_deterministic({"x": x})["output"], before)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_sites_off_is_evaluation_mode(name: str) -> None:
    module, inputs = zoo.build(name)
    mc = mcdrop.MCDropout(zoo.program(name), task="regression")
    with torch.no_grad():
        expected = zoo.entry(zoo.call(module, inputs))
    torch.testing.assert_close(mc.deterministic(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("source", ["python", "numpy"])
def test_layer_drop_is_refused_with_its_cause(source: str) -> None:
    random.seed(3)
    np.random.seed(3)
    with pytest.raises(mcdrop.CaptureError, match="Python's or NumPy's random generators"):
        mcdrop.capture(LayerDrop(source), torch.randn(2, 4))


def test_other_train_only_behaviour_is_refused() -> None:
    with pytest.raises(mcdrop.CaptureError, match=r"self\.training"):
        mcdrop.capture(TrainOnly(), torch.randn(2, 4))
    program = mcdrop.capture(TrainOnly(), torch.randn(2, 4), probe=False)
    assert len(program.sites) == 1


def test_control_flow_on_data_is_refused_and_eager_works() -> None:
    module, x = DataDependent(), torch.randn(3, 4)
    with pytest.raises(mcdrop.CaptureError, match=r"depends on the values.*engine=\"eager\""):
        mcdrop.capture(module, x)
    mc = mcdrop.MCDropout(module, x, task="regression", engine="eager")
    assert mc.predict(x, samples=16).epistemic.max() > 0


def test_a_fixed_batch_is_refused() -> None:
    with pytest.raises(mcdrop.CaptureError, match="fixes the size of an axis"):
        mcdrop.capture(FixedBatch(), torch.randn(2, 4))


def test_no_tensor_in_the_output_is_refused() -> None:
    with pytest.raises(mcdrop.CaptureError, match="without a tensor"):
        mcdrop.capture(Tensorless(), torch.randn(2, 4))


@pytest.mark.parametrize("engine", ["batched", "eager"])
def test_no_site_is_its_own_error(engine: str) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.0))
    with pytest.raises(mcdrop.NoStochasticSiteError):
        mcdrop.MCDropout(net, torch.zeros(1, 4), task="regression", engine=engine)


@pytest.mark.parametrize("p", [0.001, 0.5])
def test_sites_that_make_no_difference_are_refused(p: float) -> None:
    class Nullified(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.drop, self.factor = nn.Dropout(p), factor

        def forward(self, x: Tensor) -> Tensor:
            return x + self.factor * self.drop(x)

    with pytest.raises(mcdrop.NoStochasticSiteError, match=r"'drop'.*make no difference"):
        mcdrop.MCDropout(Nullified(0.0), torch.ones(2, 4), task="regression")
    mcdrop.MCDropout(Nullified(1.0), torch.ones(2, 4), task="regression")


def test_an_output_that_no_site_reaches_is_refused() -> None:
    class TwoHeads(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x * 2, F.dropout(x, 0.5, self.training)

    mcdrop.MCDropout(TwoHeads(), torch.ones(1, 4), task=mcdrop.tasks.Regression(entry="1"))
    with pytest.raises(mcdrop.NoStochasticSiteError, match="'0'"):
        mcdrop.MCDropout(TwoHeads(), torch.ones(1, 4), task="regression")


def test_batch_norm_in_functional_form_stays_in_evaluation() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([1.0, -1.0]))
            self.register_buffer("var", torch.tensor([2.0, 0.5]))

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(
                F.batch_norm(x, self.mean, self.var, training=self.training), 0.5, self.training
            )

    module, x = Functional().eval(), torch.randn(4, 2)
    mc = mcdrop.MCDropout(module, x, task="regression")
    torch.testing.assert_close(mc.deterministic(x), module(x))


def test_a_free_axis_takes_every_length_in_its_range() -> None:
    module, inputs = zoo.build("bert")
    axes = {"input_ids": {1: (1, 32)}, "attention_mask": {1: (1, 32)}}
    mc = mcdrop.MCDropout(module, inputs, task="classification", dynamic_axes=axes)
    loop = mcdrop.MCDropout(mc.program, task="classification", engine="loop")
    for length in (1, 4, 32):
        ids = torch.randint(1, 50, (2, length))
        x = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad():
            expected = module(**x).logits
        torch.testing.assert_close(mc.deterministic(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            mc.sample(x, samples=3), loop.sample(x, samples=3), rtol=1e-4, atol=1e-5
        )
    too_long = torch.ones(2, 33, dtype=torch.long)
    with pytest.raises(mcdrop.InputError, match="1 to 32"):
        mc.predict({"input_ids": too_long, "attention_mask": too_long})


def test_examples_are_checked() -> None:
    net = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    for bad, match in (
        ((), "empty"),
        ((torch.tensor(1.0),), "batch axis"),
        ((torch.zeros(0, 4),), "batch axis"),
        ((3,), "must be a tensor"),
    ):
        with pytest.raises(mcdrop.InputError, match=match):
            mcdrop.capture(net, bad)
    with pytest.raises(mcdrop.InputError, match="same number of rows"):
        mcdrop.capture(zoo.build("two_inputs")[0], (torch.zeros(2, 3), torch.zeros(3, 5)))
    with pytest.raises(mcdrop.InputError, match=r"nn\.Module"):
        mcdrop.capture(lambda x: x, torch.zeros(1, 4))
    with pytest.raises(mcdrop.InputError, match="axis 0 is the batch"):
        mcdrop.capture(net, torch.zeros(2, 4), dynamic_axes={"input": {0: (1, 4)}})


def test_trunk_and_tail_meet_at_the_sites() -> None:
    program = zoo.program("dropout2d")
    assert any("conv" in node.op for node in program.trunk.nodes)
    assert any("batch_norm" in node.op for node in program.trunk.nodes)
    assert not any("batch_norm" in node.op for node in program.tail.nodes)
    masks = [site.mask for site in program.active]
    assert program.tail.inputs[-len(masks) :] == tuple(masks)
    assert not set(masks) & set(program.trunk.inputs)
    ops = {node.op for node in (*program.trunk.nodes, *program.tail.nodes)}
    assert not any("dropout" in op or "rand" in op for op in ops)


@pytest.mark.parametrize("source", ["python", "numpy"])
def test_threads_that_capture_at_once_leave_pythons_generators_alone(source: str) -> None:
    """Guards that overlapped would put back a state that the other thread had moved."""

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.3)

        def forward(self, x: Tensor) -> Tensor:
            random.random() if source == "python" else np.random.rand()
            time.sleep(0.05)
            return self.drop(x)

    before = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
    module, x = Slow().eval(), torch.ones(2, 4)
    example = make_example(module, x, None)
    threads = [threading.Thread(target=evaluated, args=(module, example)) for _ in range(2)]
    threads[0].start()
    time.sleep(0.025)
    threads[1].start()
    for thread in threads:
        thread.join()
    after = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
    assert after == before
