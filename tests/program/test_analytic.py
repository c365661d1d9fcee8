"""The analytic head: exact wherever it is given, refused wherever it would not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.errors import InputError
from mcdrop.program import Manifest, Program, artifact
from mcdrop.program.analytic import analytic_head
from mcdrop.program.execute import Executable
from mcdrop.program.manifest import UNKNOWN
from mcdrop.program.verify import verify
from mcdrop.tasks import Regression
from tests import zoo
from tests.program.heads import PARTS, REFUSED, WHOLE, Forward, Net, make
from tests.reference import enumeration

EXACT = {"rtol": 1e-9, "atol": 1e-12}


def head_of(forward: Forward, **options: Any) -> tuple[Program, Net, Tensor]:
    net, x = make(forward)
    return analytic_head(mcdrop.capture(net, x, **options)), net, x


def sampled(head: Program, x: Tensor, masks: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The outputs for each of many masks, `[S, B, ...]`: the trunk once, then vmap of the tail."""
    boundary = Executable(head.trunk, head.device)({head.inputs[0].name: x, **head.weights})
    held = {**head.weights, **dict(zip(head.split.boundary, boundary, strict=True))}
    tail = Executable(head.tail, head.device)
    if not masks:
        return tuple(value[None] for value in tail(held))
    outputs: tuple[Tensor, ...] = torch.func.vmap(lambda drawn: tail({**held, **drawn}))(masks)
    return outputs


def every_sample(head: Program, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Probabilities of all masks of the sites that are left, and the outputs under each."""
    sizes = [int(np.prod(site.shape)) for site in head.active]
    rates = [site.p for site, size in zip(head.active, sizes, strict=True) for _ in range(size)]
    drawn = enumeration.masks(rates)
    bits = torch.tensor([kept for _, kept in drawn], dtype=torch.float64)
    masks = {
        site.mask: (part * site.law.scale).reshape(-1, 1, *site.shape)
        for site, part in zip(head.active, bits.split(sizes, 1) if sizes else (), strict=True)
    }
    chance = torch.tensor([chance for chance, _ in drawn], dtype=torch.float64)
    return chance, sampled(head, x, masks)


def total(head: Program, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Law of total variance over all masks that are left, `Var(E[y|s]) + E(Var[y|s])`."""
    with torch.no_grad():
        chance, (mean, variance) = every_sample(head, x)
    assert mean.shape == variance.shape
    chance = chance.reshape(-1, *(1 for _ in mean.shape[1:]))
    centre = (chance * mean).sum(0)
    spread = (chance * (mean - centre) ** 2).sum(0) + (chance * variance).sum(0)
    return centre.numpy(), spread.numpy()


def check(head: Program, net: nn.Module, x: Tensor) -> None:
    mean, variance = total(head, x)
    true_mean, true_variance = enumeration.moments(net, x)
    assert true_variance.max() > 1e-6, "nothing varies, so nothing is shown"
    assert mean.shape == true_mean.shape
    np.testing.assert_allclose(mean, true_mean, **EXACT)
    np.testing.assert_allclose(variance, true_variance, **EXACT)


@pytest.mark.parametrize("name", WHOLE)
def test_no_site_is_left_and_the_moments_are_exact(name: str) -> None:
    head, net, x = head_of(WHOLE[name])
    assert head.sites == ()
    check(head, net, x)


@pytest.mark.parametrize("name", PARTS)
def test_sites_before_are_left_and_the_total_variance_is_exact(name: str) -> None:
    forward, left = PARTS[name]
    head, net, x = head_of(forward)
    assert tuple(site.name for site in head.sites) == left
    check(head, net, x)


def test_against_the_formula_in_numpy() -> None:
    net, x = make(lambda n, x: n.out(n.dropped(x)) * n.scale + n.mean)
    head = analytic_head(mcdrop.capture(net, x))
    outputs = head.run_deterministic({"x": x})
    w, b, scale, mean, body_w, body_b, inputs = (
        tensor.detach().numpy()
        for tensor in (
            net.out.weight, net.out.bias, net.scale, net.mean, net.body.weight, net.body.bias, x
        )
    )  # fmt: skip
    hidden = np.tanh(inputs @ body_w.T + body_b)
    np.testing.assert_allclose(outputs["output"], (hidden @ w.T + b) * scale + mean, rtol=1e-12)
    variance = scale**2 * (0.3 / 0.7) * (hidden**2 @ (w**2).T)
    np.testing.assert_allclose(outputs["output:variance"], variance, rtol=1e-12)


def test_float32_is_exact_to_a_millionth() -> None:
    net, x = make(WHOLE["linear"])
    mean, variance = enumeration.moments(net, x)
    head = analytic_head(mcdrop.capture(net.float().eval(), x.float()))
    outputs = head.run_deterministic({"x": x.float()})
    np.testing.assert_allclose(outputs["output"], mean, atol=1e-6)
    np.testing.assert_allclose(outputs["output:variance"], variance, atol=1e-6)


def test_half_precision_has_its_variance_in_float32() -> None:
    """Squares of 300 overflow float16, and sums of squares lose most of bfloat16's 8 bits."""
    net, x = make(lambda n, x: n.out(n.drop(300 * n.hidden(x))) * n.scale)
    half = net.half().eval()
    head = analytic_head(mcdrop.capture(half, x.half()))
    assert [spec.dtype for spec in head.outputs] == ["float16", "float32"]
    variance = head.run_deterministic({"x": x.half()})["output:variance"]
    assert variance.dtype == torch.float32
    np.testing.assert_allclose(variance, enumeration.moments(half, x.half())[1], rtol=5e-3)


@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16])
def test_a_variance_takes_the_type_of_its_value(narrow: torch.dtype) -> None:
    net, x = make(lambda n, x: n.out(n.drop(n.hidden(x).to(narrow)).double()))
    head = analytic_head(mcdrop.capture(net, x))
    assert [spec.dtype for spec in head.outputs] == ["float64", "float64"]
    mean, variance = total(head, x)
    true_mean, true_variance = enumeration.moments(net, x)
    coarse = torch.finfo(narrow).eps  # of the dropped values, which the enumeration rounds
    np.testing.assert_allclose(mean, true_mean, atol=coarse)
    np.testing.assert_allclose(variance, true_variance, rtol=2 * coarse)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_in_closed_form_is_refused(name: str) -> None:
    forward, message = REFUSED[name]
    net, x = make(forward)
    program = mcdrop.capture(net, x)
    with pytest.raises(InputError, match=message) as caught:
        analytic_head(program)
    assert "Leave analytic_head out, or" in str(caught.value)


@pytest.mark.parametrize("name", ["alpha", "sdpa_causal", "noise", "lstm", "gpt2", "transformer"])
def test_noise_of_other_kinds_and_nonlinear_ends_are_refused(name: str) -> None:
    program = zoo.program(name)
    with pytest.raises(InputError, match="the last site"):
        analytic_head(program.select(program.outputs[0].name))


def test_several_outputs_and_no_site_are_refused() -> None:
    with pytest.raises(InputError, match=r"'score', 'parts\.0', 'parts\.1'.*program\.select"):
        analytic_head(zoo.program("two_inputs"))
    net, x = make(lambda n, x: n.out(n.dropped(x)))
    net.drop.p = 0.0
    with pytest.raises(InputError, match="no enabled site"):
        analytic_head(mcdrop.capture(net, x))


def test_a_disabled_site_is_off() -> None:
    head, net, x = head_of(lambda n, x: n.out(n.late(n.dropped(x))), sites="drop")
    assert [(site.name, site.enabled) for site in head.sites] == [("late", False)]
    net.late.p = 0.0
    check(head, net, x)


def test_a_last_site_that_is_disabled_is_not_taken_out() -> None:
    forward = PARTS["two_linear_layers"][0]
    with pytest.raises(InputError, match=r"'drop', reaches the output through aten\.linear"):
        head_of(forward, sites="drop")


def test_sites_that_are_left_keep_their_masks() -> None:
    net, x = make(lambda n, x: n.out(n.late(n.act(n.same(n.dropped(x))))) + n.two(x[:, :2]))
    program = mcdrop.capture(net, x)
    head = analytic_head(program)
    assert head.sites == program.sites[:1]
    assert analytic_head(program).graph == head.graph


@pytest.mark.parametrize("length", [1, 5])
def test_the_mean_over_a_free_axis_divides_by_its_length(length: int) -> None:
    """In the tail, where vmap cannot be asked for a size."""
    net, _ = make(lambda n, x: n.two(n.late(torch.relu(n.drop(x)[..., :2])).mean(1)))
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    head = analytic_head(mcdrop.capture(net, x, dynamic_axes={"x": {1: (1, 64)}}))
    assert [site.name for site in head.sites] == ["drop"]
    part = x[:, :length]
    ones = {"mask:0": torch.ones(9, 1, length, 4, dtype=torch.float64)}
    with torch.no_grad():
        _, variance = sampled(head, part, ones)
    square = torch.relu(part[..., :2]).square().sum(1) * (0.4 / 0.6) / length**2
    expected = square @ net.two.weight.detach().square().T
    torch.testing.assert_close(variance, expected.expand(9, -1, -1), rtol=1e-12, atol=0.0)


def test_an_axis_of_one_may_be_wider_at_another_size() -> None:
    """At the length 1 nothing is widened; a unit reaches several sums at any other."""
    net, _ = make(lambda n, x: (n.drop(x[:, :1]) + x).sum(1))
    program = mcdrop.capture(net, torch.randn(2, 5, 4).double(), dynamic_axes={"x": {1: (1, 64)}})
    with pytest.raises(InputError, match=r"aten\.sum.*share dropped"):
        analytic_head(program)


def test_squared_weights_are_in_the_trunk() -> None:
    head, _, _ = head_of(PARTS["two_layers"][0])
    squares = [n for n in head.trunk.nodes if [*n.refs()] == ["w:end.weight"] * 2]
    assert [n.op for n in squares] == ["aten.mul.Tensor"]
    assert squares[0].name in head.split.boundary
    assert not any([*n.refs()] == ["w:end.weight"] * 2 for n in head.tail.nodes)


def test_the_tail_needs_no_loop_under_vmap() -> None:
    torch._C._functorch._set_vmap_fallback_enabled(False)
    try:
        for forward, _ in PARTS.values():
            head, _, x = head_of(forward)
            assert every_sample(head, x)[1][1].min() >= 0.0
    finally:
        torch._C._functorch._set_vmap_fallback_enabled(True)


@pytest.mark.parametrize("name", ["dropout", "functional", "in_place_view", "bert", "time_major"])
def test_the_zoo_survives_verification_and_storage(name: str, tmp_path: Path) -> None:
    _, inputs = zoo.build(name)
    program = zoo.program(name)
    head = analytic_head(program.select(program.outputs[0].name))
    assert len(head.sites) < len(program.sites)
    manifest = Manifest(
        name=name,
        task=Regression(),
        inputs=head.inputs,
        outputs=head.outputs,
        sites=artifact.site_specs(head),
        files=UNKNOWN,
    )
    verify(head, manifest)
    again, _ = artifact.load(artifact.save(tmp_path / "m", head, manifest), head.device)
    assert (again.graph, again.sites, again.outputs) == (head.graph, head.sites, head.outputs)
    values = dict(inputs) if isinstance(inputs, dict) else {head.inputs[0].name: inputs}
    for key, value in head.run_deterministic(values).items():
        assert torch.equal(again.run_deterministic(values)[key], value)
        assert value.shape == head.run_deterministic(values)[program.outputs[0].name].shape
