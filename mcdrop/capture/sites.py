"""Finding sites: which nodes are random, how they are called, and where their rows are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from mcdrop.errors import CaptureError, InputError
from mcdrop.program.graph import Graph, Node, Ref
from mcdrop.program.lowering import SDPA
from mcdrop.program.means import COMPARISONS, FLOOR, probability_true
from mcdrop.program.ops import is_random
from mcdrop.program.site import Kind, Law, Site

_DROPOUTS: Mapping[str, Kind] = {
    "aten.dropout.default": "dropout",
    "aten.feature_dropout.default": "feature_dropout",
    "aten.alpha_dropout.default": "alpha_dropout",
    "aten.feature_alpha_dropout.default": "feature_alpha_dropout",
}
_NOISE: Mapping[str, Kind] = {
    "aten.rand.default": "uniform",
    "aten.rand_like.default": "uniform",
    "aten.uniform.default": "uniform",
    "aten.randn.default": "normal",
    "aten.randn_like.default": "normal",
    "aten.normal_functional.default": "normal",
    "aten.exponential.default": "exponential",
    "aten.bernoulli.p": "bernoulli",
    "aten.bernoulli.default": "bernoulli",
    "aten.bernoulli.Tensor": "bernoulli",
}
_RNN = ("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
_SUFFIX: Mapping[Kind, str] = {"attention": "attention", "rnn": "layer"}
UNIFORM = Law("uniform")


@dataclass(frozen=True, slots=True)
class Found:
    """A random node before it has a shape and a place for its rows."""

    node: Node
    kind: Kind
    p: float | None
    law: Law
    layer: int = 0
    threshold: str | None = None


def find(graph: Graph) -> list[Found]:
    """Every random node of a captured graph, in order of execution.

    Raises:
        CaptureError: a node is random in a way that cannot be sampled.
    """
    return [found for node in graph.nodes for found in _classify(graph, node)]


def _classify(graph: Graph, node: Node) -> Iterable[Found]:
    if node.op in _DROPOUTS:
        yield _dropout(node)
    elif node.op == SDPA:
        p = _number(node.arg(4, "dropout_p", 0.0))
        if p > 0:
            yield Found(node, "attention", p, _kept(p))
    elif node.op in _RNN:
        p, train, layers = _number(node.args[5]), node.args[6], node.args[4]
        assert isinstance(layers, int)
        if train and p > 0:
            for layer in range(layers - 1):
                yield Found(node, "rnn", p, _kept(p), layer)
    elif node.op in _NOISE:
        yield _noise(graph, node)
    elif node.op != SDPA and is_random(node.op):
        raise CaptureError(
            f"{node.op} (in {node.path or 'the forward'!r}) draws random numbers in a way that "
            f"cannot "
            "be sampled from a mask; use dropout, rand, randn, bernoulli, uniform_, normal_ or "
            'exponential_, or engine="eager"'
        )


def _dropout(node: Node) -> Found:
    kind, p = _DROPOUTS[node.op], _number(node.args[1])
    return Found(node, kind, p, Law("bernoulli", p) if "alpha" in kind else _kept(p))


def _kept(p: float) -> Law:
    return Law("bernoulli", p, 0.0 if p >= 1.0 else 1.0 / (1.0 - p))


def _noise(graph: Graph, node: Node) -> Found:
    kind = _NOISE[node.op]
    if node.op == "aten.bernoulli.p":
        p = 1.0 - _number(node.arg(1, "p", 0.5))
        return Found(node, kind, p, Law("bernoulli", p))
    if kind == "normal":
        return Found(node, kind, None, Law("normal"))
    if kind == "uniform" and _is_unit(node):
        threshold = _threshold(graph, node)
        if threshold is not None:
            return Found(node, "bernoulli", threshold[1], UNIFORM, threshold=threshold[0])
    return Found(node, kind, None, UNIFORM)


def _is_unit(node: Node) -> bool:
    """Whether uniform noise is on [0, 1)."""
    if node.op != "aten.uniform.default":
        return True
    return node.arg(1, "from", 0.0) == 0.0 and node.arg(2, "to", 1.0) == 1.0


def _threshold(graph: Graph, node: Node) -> tuple[str, float] | None:
    """The comparison that makes a mask of uniform noise, and its rate of dropping."""
    users = graph.users(node.name)
    if len(users) != 1:
        return None
    user = users[0]
    if user.op in COMPARISONS and user.args[0] == Ref(node.name):
        true = probability_true(user)
        drops = any(
            u.op.startswith(("aten.masked_fill", "aten.logical_not", "aten.bitwise_not"))
            for u in graph.users(user.name)
        )
        return user.name, true if drops else 1.0 - true
    if user.op == "aten.add.Tensor" and not user.kwargs:
        constant = [arg for arg in user.args if isinstance(arg, int | float)]
        floors = graph.users(user.name)
        if constant and len(floors) == 1 and floors[0].op == FLOOR and 0 <= constant[0] <= 1:
            return floors[0].name, 1.0 - float(constant[0])
    return None


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def name_all(found: Sequence[Found]) -> list[str]:
    """A name for each site: its module path, and what it is where the path alone does not tell.

    A site alone in a module of its own (`nn.Dropout` at `head.drop`) has the module's path;
    attention and recurrent sites say so behind it (`encoder.attn.attention`, `rnn.layer0`);
    further ones are numbered.
    """
    wanted = [_label(f) for f in found]
    counts = Counter(wanted)
    seen: Counter[str] = Counter()
    names = []
    for label in wanted:
        names.append(f"{label}_{seen[label]}" if counts[label] > 1 else label)
        seen[label] += 1
    return names


def _label(found: Found) -> str:
    path = found.node.path
    if found.kind == "rnn":
        return f"{path}.layer{found.layer}".removeprefix(".")
    if found.kind == "attention":
        return f"{path}.attention".removeprefix(".")
    return path or found.kind


def select(sites: Sequence[Site], patterns: str | Sequence[str] | None) -> tuple[Site, ...]:
    """Enable the sites whose names match one of the patterns (`"head.*"`); all for `None`.

    Raises:
        InputError: a pattern matches no site.
    """
    if patterns is None:
        return tuple(sites)
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(site.name, pattern) for site in sites):
            known = ", ".join(repr(site.name) for site in sites) or "none"
            raise InputError(f"sites: {pattern!r} matches no site; the model has: {known}")
    return tuple(
        replace(site, enabled=any(fnmatchcase(site.name, pattern) for pattern in wanted))
        for site in sites
    )
