r"""What affine operations do to the mean and the variance of values with dropped units in them.

A drop-out of rate p multiplies each unit by its own m, which is 1 / (1 - p) with probability 1 - p
and else 0: E[m] = 1 and Var[m] = p / (1 - p). What depends on such units through affine operations
only has the mean that the same operations give with the drop-out left out. Its variance follows
where each operation either acts on every element alone, or sums elements that are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor

from mcdrop.program.graph import Arg, Node, Ref
from mcdrop.program.spread import Draft, Spread, obstacle

# Adds to the draft what computes the variance of a node's value, some operand of which has a
# spread; `None` where the value reads nothing of that operand but its shape.
Rule: TypeAlias = Callable[[Draft, Node], Spread | None]


def follow(draft: Draft, node: Node, *, identity: bool = False) -> None:
    """Take a node into a draft, with the spread of its value where it reads one that has a spread.

    Args:
        draft: holds all nodes before.
        node: of the captured graph.
        identity: it is a drop-out that is off.

    Raises:
        ObstacleError: the variance of its value is not known.
    """
    draft.keep(node)
    reached = draft.reached(node)
    if not reached or node.op in _READ_SHAPES:
        return
    rule = _unchanged if identity else _RULES.get(node.op)
    if rule is None:
        raise obstacle(node, "which is not affine, or not known to be")
    spread = rule(draft, node)
    if spread is None:
        return
    if isinstance(draft.value(node.name), Tensor):
        if not draft.value(node.name).is_floating_point():
            raise obstacle(node, "whose value is not real")
        dtype = draft.dtype(node.name)
        if any(draft.dtype(name) != dtype for name in reached):
            cast = draft.cast(node, Ref(spread.variance), dtype)
            spread = replace(spread, variance=cast.name)
    draft.spreads[node.name] = spread


def _only(draft: Draft, node: Node, position: int = 0) -> Spread:
    """The spread of one operand, where nothing else that the node reads has any."""
    spread = draft.spread(node.args[position])
    if spread is None or len(draft.reached(node)) > 1:
        raise obstacle(node, "which is not affine in what depends on the site")
    return spread


def _independent(draft: Draft, node: Node, position: int = 0) -> Spread:
    """The same, of elements that are about to be summed."""
    spread = _only(draft, node, position)
    if not spread.independent:
        raise obstacle(node, "which sums values that share dropped units: they are correlated")
    return spread


def _unchanged(draft: Draft, node: Node) -> Spread:
    """Negation, copies, casts."""
    return _only(draft, node)


def _moved(draft: Draft, node: Node) -> Spread:
    """Elements picked, moved or reshaped: the variances are, too."""
    spread = _only(draft, node)
    variance = draft.emit(node, node.op, Ref(spread.variance), *node.args[1:], **dict(node.kwargs))
    return replace(spread, variance=variance.name)


def _taken(draft: Draft, node: Node) -> Spread:
    """The same, where an element may be taken more than once."""
    return replace(_moved(draft, node), independent=False)


def _expanded(draft: Draft, node: Node) -> Spread:
    """Elements repeated along an axis: copies of one another."""
    spread = _moved(draft, node)
    alone = spread.independent and draft.same_shape(node.args[0], node.name)
    return replace(spread, independent=alone)


def _fitted(draft: Draft, node: Node, spread: Spread, operand: Arg) -> Spread:
    """The spread of an operand, repeated where the value of the node is larger."""
    if draft.same_shape(operand, node.name):
        return spread
    wider = draft.emit(node, "aten.expand_as.default", Ref(spread.variance), Ref(node.name))
    return Spread(wider.name, spread.sites, independent=False)


def _fitted_first(draft: Draft, node: Node) -> Spread | None:
    """`expand_as(x, like)`: of `like` the shape is read."""
    spread = draft.spread(node.args[0])
    return None if spread is None else _fitted(draft, node, spread, node.args[0])


def _fitted_second(draft: Draft, node: Node) -> Spread | None:
    """`copy(target, source)`, which in-place operations become: of the target the shape is left."""
    spread = draft.spread(node.args[1])
    return None if spread is None else _fitted(draft, node, spread, node.args[1])


def _added(draft: Draft, node: Node) -> Spread:
    """Sums and differences: variances of independent terms add up, and constants do not vary."""
    alpha = node.arg(2, "alpha", 1)
    factors = (alpha, 1) if node.op.startswith("aten.rsub.") else (1, alpha)
    terms = []
    for operand, factor in zip(node.args[:2], factors, strict=True):
        spread = draft.spread(operand)
        if spread is None:
            continue
        if factor != 1:
            square = draft.square(node, factor)
            term = draft.emit(node, "aten.mul.Tensor", Ref(spread.variance), square)
            spread = replace(spread, variance=term.name)
        terms.append(_fitted(draft, node, spread, operand))
    if len(terms) == 1:
        return terms[0]
    left, right = terms
    if left.sites & right.sites:
        raise obstacle(node, "both operands of which depend on it: they are correlated")
    total = draft.emit(node, "aten.add.Tensor", Ref(left.variance), Ref(right.variance))
    independent = left.independent and right.independent
    return Spread(total.name, left.sites | right.sites, independent)


def _scaled(draft: Draft, node: Node) -> Spread:
    """Products and quotients with what does not depend on dropped units: Var[c v] = c² Var[v]."""
    divides = node.op.startswith("aten.div.")
    position = 0 if divides or draft.spread(node.args[0]) else 1
    spread = _only(draft, node, position)
    square = draft.square(node, node.args[1 - position])
    op = "aten.div.Tensor" if divides else "aten.mul.Tensor"
    variance = draft.emit(node, op, Ref(spread.variance), square)
    alone = spread.independent and draft.same_shape(node.args[position], node.name)
    return Spread(variance.name, spread.sites, alone)


def _mixed(draft: Draft, node: Node, first: int, op: str, rest: tuple[Arg, ...]) -> Spread:
    """Products of two operands whose every sum takes an element once.

    Var[Σ_i w_i v_i] = Σ_i w_i² Var[v_i] for independent v_i. A unit then reaches several sums.

    Args:
        draft: holds all nodes before.
        node: adds something to the product, or not.
        first: position of the first of the two operands.
        op: computes the product.
        rest: its other arguments.
    """
    position = first if draft.spread(node.args[first]) else first + 1
    spread = _independent(draft, node, position)
    square = draft.square(node, node.args[2 * first + 1 - position])
    varying = Ref(spread.variance)
    pair = (varying, square) if position == first else (square, varying)
    variance = draft.emit(node, op, *pair, *rest)
    return Spread(variance.name, spread.sites, independent=False)


def _multiplied(draft: Draft, node: Node) -> Spread:
    """Matrix products."""
    return _mixed(draft, node, 0, node.op, ())


def _multiplied_and_added(draft: Draft, node: Node) -> Spread:
    """`beta * c + alpha * (a @ b)`; c does not vary."""
    op = {"aten.addmm.default": "aten.mm.default", "aten.baddbmm.default": "aten.bmm.default"}
    spread = _mixed(draft, node, 1, op[node.op], ())
    alpha = node.kwarg("alpha", 1)
    if alpha == 1:
        return spread
    square = draft.square(node, alpha)
    variance = draft.emit(node, "aten.mul.Tensor", Ref(spread.variance), square)
    return replace(spread, variance=variance.name)


def _layer(draft: Draft, node: Node) -> Spread:
    """Linear layers and convolutions, whose third argument is a bias that does not vary."""
    if node.kwargs:
        raise obstacle(node, "whose arguments by keyword are not understood")
    spread = _mixed(draft, node, 0, node.op, (None, *node.args[3:]))
    if "conv" not in node.op:
        return spread
    # Winograd's algorithm subtracts, so that rounding can leave less than nothing
    floored = draft.emit(node, "aten.clamp_min.default", Ref(spread.variance), 0.0)
    return replace(spread, variance=floored.name)


def _reduced(draft: Draft, node: Node) -> Spread:
    """Sums and means over axes: a unit reaches one of them, so they stay independent."""
    spread = _independent(draft, node)
    operand, dims = node.args[0], node.arg(1, "dim") or ()
    assert isinstance(operand, Ref)
    listed = dims if isinstance(dims, tuple) else (dims,)
    axes = tuple(axis for axis in listed if isinstance(axis, int))
    keep = node.arg(2, "keepdim", False)
    variance = draft.emit(node, node.op, Ref(spread.variance), axes, keep)
    if node.op.startswith("aten.mean."):  # Var[mean] = mean[Var] / n
        count = draft.count(node, operand, axes, keep)
        variance = draft.emit(node, "aten.div.Tensor", variance, count)
    return replace(spread, variance=variance.name)


def _joined(draft: Draft, node: Node) -> Spread:
    """Values laid beside each other, or one written into another; the constant ones vary by 0."""
    many = isinstance(node.args[0], tuple)
    parts = node.args[0] if many else node.args[:2]
    assert isinstance(parts, tuple)
    found = [spread for spread in map(draft.spread, parts) if spread is not None]
    variances = []
    for part in parts:
        assert isinstance(part, Ref)
        spread = draft.spread(part)
        variances.append(Ref(spread.variance) if spread else draft.zeros(node, part))
    args = (tuple(variances), *node.args[1:]) if many else (*variances, *node.args[2:])
    variance = draft.emit(node, node.op, *args, **dict(node.kwargs))
    sites = frozenset[int]().union(*(spread.sites for spread in found))
    disjoint = len(sites) == sum(len(spread.sites) for spread in found)
    independent = disjoint and all(spread.independent for spread in found)
    return Spread(variance.name, sites, independent)


_TABLE: tuple[tuple[Rule, str], ...] = (
    (_unchanged, "neg.default clone.default alias.default detach.default contiguous.default"),
    (_unchanged, "_to_copy.default lift_fresh_copy.default"),
    (_moved, "view.default _unsafe_view.default reshape.default flatten.using_ints unflatten.int"),
    (_moved, "unsqueeze.default squeeze.default squeeze.dim squeeze.dims transpose.int t.default"),
    (_moved, "permute.default movedim.int movedim.intlist swapaxes.default flip.default"),
    (_moved, "roll.default slice.Tensor select.int narrow.default split.Tensor chunk.default"),
    (_moved, "split_with_sizes.default unbind.int"),
    (_taken, "index_select.default gather.default index.Tensor repeat.default"),
    (_expanded, "expand.default broadcast_to.default"),
    (_fitted_first, "expand_as.default"),
    (_fitted_second, "copy.default"),
    (_added, "add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Tensor rsub.Scalar"),
    (_scaled, "mul.Tensor mul.Scalar div.Tensor div.Scalar"),
    (_multiplied, "matmul.default mm.default bmm.default mv.default"),
    (_multiplied_and_added, "addmm.default baddbmm.default"),
    (_layer, "linear.default convolution.default conv1d.default conv2d.default conv3d.default"),
    (_layer, "conv1d.padding conv2d.padding conv3d.padding conv_transpose1d.default"),
    (_layer, "conv_transpose2d.input conv_transpose3d.input"),
    (_reduced, "sum.dim_IntList mean.dim"),
    (_joined, "cat.default stack.default slice_scatter.default select_scatter.default"),
)
_RULES: Mapping[str, Rule] = MappingProxyType(
    {"getitem": _moved, **{f"aten.{op}": rule for rule, ops in _TABLE for op in ops.split()}}
)
# These read nothing of a value but its shape and type.
_READ_SHAPES = frozenset(
    {
        "aten.sym_size.int",
        "aten.sym_numel.default",
        "aten.zeros_like.default",
        "aten.ones_like.default",
        "aten.full_like.default",
        "aten.new_zeros.default",
        "aten.new_ones.default",
        "aten.new_full.default",
        "aten.rand_like.default",
        "aten.randn_like.default",
    }
)
