r"""The analytic head: last sites whose effect on the output is known in closed form.

Where dropped units reach the output through one affine layer, y = W (x ⊙ m) + b, there is nothing
to sample: given x, the mean and the variance over the masks m are formulas. They become ordinary
nodes of the graph, so that engines, trunk and tail, and artifacts know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcdrop.errors import InputError
from mcdrop.program import lowering
from mcdrop.program.affine import follow
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.program import Program
from mcdrop.program.schema import dtype_name
from mcdrop.program.site import Site
from mcdrop.program.spread import Draft, ObstacleError

# Two numbers of rows, and what to multiply free axes by: an axis of 1 is told from a wider one.
_SIZES = ((2, 1), (7, 8))


def analytic_head(program: Program) -> Program:
    r"""The program with its last sites taken out, and its output's conditional mean and variance.

    A site with the rate p multiplies each unit of x by an m of its own, with E[m] = 1 and
    Var[m] = p / (1 - p). Given what the layers before make of the input (Srivastava et al. 2014,
    section 9.1; Wang & Manning 2013),

    .. math:: E[W (x ⊙ m) + b] = W x + b, \qquad
        Var[W (x ⊙ m) + b]_o = \frac{p}{1 - p} \sum_i W_{oi}^2 x_i^2.

    A site is taken out where its dropped elements reach the output through operations that act on
    each element alone, at most one layer that mixes them (linear, matrix product, convolution),
    and again operations on each element alone; sums and means over axes may come before the layer.
    Sites that are left keep their indices, and so their masks; over their samples s, the variance
    is :math:`Var_s(E[y|s]) + E_s[Var[y|s]]`.

    Args:
        program: has one output (see `Program.select`), `[B, ...]`.

    Returns:
        A program with two outputs of that shape: the mean, under the name of the output, and the
        variance in squared units of it, in float32 or wider, under `"<name>:variance"`. It may have
        no site left.

    Raises:
        InputError: no site reaches the output in this way, or the program has several outputs.

    Example:
        >>> import torch, mcdrop
        >>> net = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(4, 1, bias=False))
        >>> _ = torch.nn.init.ones_(net[1].weight)
        >>> head = analytic_head(mcdrop.capture(net, torch.ones(1, 4)))
        >>> [spec.name for spec in head.outputs], head.sites
        (['output', 'output:variance'], ())
        >>> head.run_deterministic({"input": torch.ones(1, 4)})
        {'output': tensor([[4.]]), 'output:variance': tensor([[1.]])}
    """
    if len(program.outputs) != 1:
        names = ", ".join(repr(spec.name) for spec in program.outputs)
        raise InputError(
            f"analytic_head takes a program with one output; this one has {names}: choose one "
            "with program.select(name)"
        )
    measured = _measured(program)
    chosen: tuple[Site, ...] = ()
    head, reason = program, "the program has no enabled site"
    for site in reversed(program.active):
        try:
            head = _without(program, (*chosen, site), measured)
        except ObstacleError as error:
            if not chosen and site is program.active[-1]:
                reason = f"the last site, {site.name!r}, {error}"
        else:
            chosen = (*chosen, site)
    if not chosen:
        raise InputError(
            "analytic_head needs a dropout that reaches the output through affine operations only, "
            f"and through one layer that mixes units; {reason}. Leave analytic_head out, or let "
            "the model end with dropout and one affine layer"
        )
    return head


def _without(
    program: Program, chosen: Sequence[Site], measured: Sequence[Mapping[str, Any]]
) -> Program:
    """The program with these sites taken out.

    Raises:
        ObstacleError: the output's variance over their masks is not known.
    """
    draft = Draft(program.graph, measured)
    taken = {site.node: site for site in chosen}
    off = {site.node for site in program.sites if not site.enabled}
    for site in chosen:
        if site.kind != "dropout":
            raise ObstacleError(f"is of kind {site.kind!r}, which does not drop each element alone")
    for node in program.graph.nodes:
        if node.name in taken and draft.spread(node.args[0]) is None:
            draft.drop(node, taken[node.name])
        else:
            identity = node.name in off and "dropout.default" in node.op
            follow(draft, node, identity=identity)
    ((public, name),) = program.graph.outputs
    spread = draft.spreads.get(name)
    if spread is None:
        raise ObstacleError("does not reach the output")
    graph = draft.graph([(public, name), (f"{public}:variance", spread.variance)])
    return replace(
        program,
        graph=graph,
        sites=tuple(s for s in program.sites if s.node in graph and s not in chosen),
        outputs=_specs(program.outputs[0], dtype_name(draft.dtype(name))),
        weights={name: program.weights[name] for name in graph.weights},
    )


def _specs(mean: TensorSpec, dtype: str) -> tuple[TensorSpec, TensorSpec]:
    update = {"name": f"{mean.name}:variance", "dtype": dtype}
    return mean, mean.model_copy(update=update)


def _measured(program: Program) -> list[Mapping[str, Any]]:
    """Every value of the captured graph on the meta device, at several sizes of the inputs."""
    graph = program.graph
    names = (*graph.inputs, *graph.weights, *(node.name for node in graph.nodes))
    every = replace(graph, outputs=tuple((name, name) for name in names))
    lowered = lowering.stochastic(every, program.sites)
    found: list[Mapping[str, Any]] = []
    for rows, times in _SIZES:
        sizes = {spec.name: _sizes(spec, times) for spec in program.inputs}
        found.append(program.measure(lowered, program.meta_inputs(rows, sizes)).outputs)
    return found


def _sizes(spec: TensorSpec, times: int) -> tuple[int, ...]:
    """Shape without the batch axis: free axes at a multiple of their lower bounds."""
    sizes = []
    for axis, (size, low) in enumerate(zip(spec.shape[1:], spec.smallest(), strict=True), 1):
        high = spec.ranges.get(axis, (low, low))[1]
        sizes.append(low * min(times, high // low) if size is None else size)
    return tuple(sizes)
