"""From what a caller passes to what can be sampled: a program, or a module that is run eagerly."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mcdrop.capture import capture
from mcdrop.capture.example import Example, Ranges, make_example
from mcdrop.capture.probe import evaluated
from mcdrop.engine import EagerEngine
from mcdrop.errors import InputError, NoStochasticSiteError
from mcdrop.program import Program
from mcdrop.program.schema import Inputs
from mcdrop.sampling import Masks, Sampling
from mcdrop.tasks import AnyTask, entries


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
