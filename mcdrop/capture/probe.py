"""The probe: does the program, every site off, compute what `model.eval()` computes?

A trace in training mode bakes in whatever else training mode does. The probe catches it on the
example.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcdrop.capture.example import Example
from mcdrop.capture.intercept import Intercept, means, plain_tensors
from mcdrop.capture.layout import changed_row
from mcdrop.capture.outputs import flatten
from mcdrop.capture.python_random import preserved
from mcdrop.capture.trace import monte_carlo_copy
from mcdrop.errors import CaptureError
from mcdrop.program.program import Program

_TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 5e-2, torch.float64: 1e-8}


def evaluated(model: nn.Module, example: Example) -> dict[str, Tensor]:
    """Outputs of a copy of the module in evaluation mode, any noise of its own at its mean."""
    duplicate = monte_carlo_copy(model).eval()
    with plain_tensors(), preserved(), Intercept(means):
        return flatten(example.call(duplicate))


def probe(program: Program, model: nn.Module, example: Example, *, python_random: bool) -> None:
    """Compare the deterministic program with `model.eval()` on the example.

    Args:
        program: the captured program.
        model: the module it came from.
        example: what to compare on.
        python_random: whether the traced pass drew from Python's or NumPy's generators.

    Raises:
        CaptureError: they differ; the message names the likely cause.
    """
    expected = evaluated(model, example)
    with torch.no_grad():
        inputs = {name: tensor.to(program.device) for name, tensor in example.tensors.items()}
        got = program.run_deterministic(inputs)
    _check_rows(program, example)
    shared = [name for name in got if name in expected]
    worst, where = 0.0, ""
    for name in shared:
        error = _relative_error(got[name], expected[name])
        if error > _TOLERANCE.get(got[name].dtype, 1e-3) and not error <= worst:
            worst, where = error, name
    missing = sorted(set(expected) ^ set(got))
    if where or not shared:
        what = (
            f"output {where!r} differs by {worst:.2g} (relative)" if where else f"outputs {missing}"
        )
        raise CaptureError(
            f"{type(model).__name__}: with dropout off the captured program does not agree with "
            f"model.eval() on the example: {what}. The trace holds behaviour of training mode "
            f"other "
            f"than dropout. {_cause(program, python_random=python_random)} "
            'Make that part depend on neither, or use engine="eager"'
        )


def _check_rows(program: Program, example: Example) -> None:
    """Raise if changing one row of the example changes another row's output."""
    base = {name: t.to(program.device) for name, t in example.with_rows(3).items()}
    changed = {name: changed_row(tensor) for name, tensor in base.items()}
    try:
        with torch.no_grad():
            before, after = program.run_deterministic(base), program.run_deterministic(changed)
    except (IndexError, RuntimeError):
        return  # the changed row is not one that the model can take: nothing is known
    for name, one in before.items():
        if one.ndim == 0 or one.shape[0] != 3:
            continue
        other = after[name]
        if max(_relative_error(other[i], one[i]) for i in (0, 2)) > 1e-3:
            raise CaptureError(
                f"changing one row of the example changes the output {name!r} of other rows: the "
                "model mixes rows, so an answer would depend on what shares its batch. Normalise "
                "with running statistics, or within a row"
            )


def _relative_error(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return float("inf")
    if not got.is_floating_point():
        return 0.0 if torch.equal(got, expected) else float("inf")
    got, expected = (t.detach().to("cpu", torch.float64) for t in (got, expected))
    if not torch.equal(got.isfinite(), expected.isfinite()):
        return float("inf")
    finite = got.isfinite()
    got, expected = got[finite], expected[finite]
    if got.numel() == 0:
        return 0.0
    size = expected.abs().max().clamp_min(1e-6)
    return float((got - expected).abs().max() / size)


def _cause(program: Program, *, python_random: bool) -> str:
    if python_random:
        return (
            "Its forward draws from Python's or NumPy's random generators, and that draw was "
            "baked in "
            "(LayerDrop and SpecAugment do this: set layerdrop=0 and apply_spec_augment=False)."
        )
    statistics = [
        node
        for node in program.graph.nodes
        if node.op in ("aten.batch_norm.default", "aten.instance_norm.default")
        and node.args[5] is True
    ]
    if any("batch_norm" in node.op for node in program.graph.nodes) and statistics:
        return f"A normalisation layer ({statistics[0].path!r}) uses the statistics of the batch."
    if any(site.law.kind != "bernoulli" for site in program.sites):
        return (
            "Its hand-written noise does not vanish when each random number takes its mean; "
            "probe=False accepts that."
        )
    return "Look for `if self.training:` branches that do more than dropout."
