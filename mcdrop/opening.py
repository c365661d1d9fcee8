"""From what a caller passes to what can be sampled: a program, or a module that is run eagerly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from mcdrop.capture import capture
from mcdrop.capture.example import Example, Ranges, make_example
from mcdrop.capture.probe import evaluated
from mcdrop.engine import (
    EagerEngine,
    EngineName,
    Planner,
    Precision,
    Source,
    require_variance,
)
from mcdrop.errors import InputError, NoStochasticSiteError
from mcdrop.exact import closed_form
from mcdrop.prediction import RegressionPrediction
from mcdrop.program import Program, TensorSpec
from mcdrop.program.analytic import analytic_head as without_last_sites
from mcdrop.program.schema import Inputs, checked
from mcdrop.program.site import Law
from mcdrop.sampling import Masks, Sampling
from mcdrop.tasks import AnyTask, Regression, check_outputs, entries

ClosedForm = Callable[[Mapping[str, Tensor], int], RegressionPrediction]


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that is ready to be sampled.

    Attributes:
        inputs: what it takes.
        source: what `predict` samples.
        plain: what `sample` samples: the model itself, also where `source` has an analytic head.
        laws: of the sites of `source`.
        program: the captured program; `None` for a module that is run eagerly.
        analytic: whether `source` has an analytic head.
        closed: the prediction without any sampling, where the head took all sites.
    """

    inputs: tuple[TensorSpec, ...]
    source: Source
    plain: Source
    laws: tuple[Law, ...]
    program: Program | None = None
    analytic: bool = False
    closed: ClosedForm | None = None


def open_model(
    model: nn.Module | Program,
    example_inputs: Inputs | None,
    *,
    task: AnyTask,
    masks: Masks,
    sampling: Sampling,
    engine: EngineName | Literal["eager"],
    device: torch.device,
    memory_budget: int,
    sites: str | Sequence[str] | None,
    dynamic_axes: Ranges | None,
    analytic_head: bool,
    precision: Precision,
) -> Opened:
    """Capture a module if need be, check it, and make what samples it; see `MCDropout`.

    Raises:
        CaptureError: the module cannot be traced.
        NoStochasticSiteError: nothing random reaches the output.
        InputError: an argument does not fit.
    """
    if analytic_head and (engine == "eager" or not isinstance(task, Regression)):
        raise InputError(
            "analytic_head takes a program (not engine='eager') and task='regression', which is "
            "affine in the model's output; a softmax or a log-variance is not. For the moments of "
            "logits, take task='regression' on their entry"
        )
    if engine == "eager":
        if precision != "float32":
            raise InputError("engine='eager' computes as the module does; leave precision out")
        if sites is not None:
            raise InputError('engine="eager" samples every site; sites cannot be selected')
        eager = open_eager(model, example_inputs, dynamic_axes, task, masks, sampling)
        return Opened(eager.inputs, eager, eager, tuple(site.law for site in eager.sites))
    program, example = open_program(model, example_inputs, sites, dynamic_axes)
    names = entries(task, [spec.name for spec in program.outputs])
    program = program.select(*names).to(device)
    check_outputs(task, [spec.shape for spec in program.outputs])
    program.require_rows()
    program.require_sites()
    if example is not None:
        require_variance(program, checked(program.inputs, example.tensors, device))

    def planner(program: Program) -> Planner:
        return Planner(
            program,
            engine=engine,
            masks=masks,
            sampling=sampling,
            memory_budget=memory_budget,
            precision=precision,
        )

    plain = planner(program)
    if not analytic_head:
        laws = tuple(site.law for site in program.active)
        return Opened(program.inputs, plain, plain, laws, program)
    assert isinstance(task, Regression)
    head = without_last_sites(program)
    laws = tuple(site.law for site in head.active)
    if not laws:
        closed = partial(closed_form, head, task)
        return Opened(program.inputs, plain, plain, laws, program, analytic=True, closed=closed)
    return Opened(program.inputs, planner(head), plain, laws, program, analytic=True)


def open_program(
    model: nn.Module | Program,
    example_inputs: Inputs | None,
    sites: str | Sequence[str] | None,
    dynamic_axes: Ranges | None,
) -> tuple[Program, Example | None]:
    """The program, captured if need be, and the example that it was captured with.

    Raises:
        CaptureError: the module cannot be traced.
        InputError: an argument does not fit.
    """
    if isinstance(model, Program):
        if example_inputs is not None or sites is not None or dynamic_axes is not None:
            raise InputError(
                "example_inputs, sites and dynamic_axes belong to capture(); a Program has them"
            )
        return model, None
    if example_inputs is None:
        raise InputError("example_inputs is needed to trace a module: a tensor, a tuple or a dict")
    program = capture(model, example_inputs, sites=sites, dynamic_axes=dynamic_axes)
    return program, make_example(model, example_inputs, dynamic_axes)


def open_eager(
    model: nn.Module | Program,
    example_inputs: Inputs | None,
    dynamic_axes: Ranges | None,
    task: AnyTask,
    masks: Masks,
    sampling: Sampling,
) -> EagerEngine:
    """An engine that runs the module itself.

    Raises:
        InputError: an argument does not fit.
        NoStochasticSiteError: nothing is random.
    """
    if isinstance(model, Program) or example_inputs is None:
        raise InputError('engine="eager" needs a module and example_inputs')
    example = make_example(model, example_inputs, dynamic_axes)
    names = entries(task, list(evaluated(model, example)))
    engine = EagerEngine(model, example, names, masks, sampling)
    if not engine.sites:
        raise NoStochasticSiteError("the module drew no random number in a stochastic pass")
    return engine
