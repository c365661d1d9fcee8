"""Random graphs: whatever the analytic head accepts is exact, over every mask there is."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.program import BatchLayout, Law, Program, Site, TensorSpec
from mcdrop.program.analytic import analytic_head
from mcdrop.program.execute import Executable
from mcdrop.program.graph import Arg, Graph, Node, Ref
from mcdrop.program.ops import resolve
from tests.reference import enumeration

ROWS, MORE, UNITS, STEPS, GRAPHS = 2, 5, 8, 7, 40
WEIGHTS = {"w22": (2, 2), "w24": (2, 4), "w32": (3, 2), "k": (2, 2, 2), "c": (2,), "m": (2, 2)}

Call = tuple[str, tuple[Arg, ...], dict[str, Arg]]


def units(shape: Sequence[int]) -> int:
    """How many elements a shape has."""
    return int(np.prod(shape))


class Maker:
    """Adds random nodes to a graph, each tried on numbers to see that its shapes fit."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=torch.float64, generator=generator)

        self.weights = {name: normal(*shape) for name, shape in WEIGHTS.items()}
        more = normal(MORE, 4)
        self.x = more[:ROWS]
        self.values: dict[str, Tensor] = {"x": more}
        self.nodes: list[Node] = []
        self.sites: list[Site] = []

    def value(self) -> str:
        """One of the values; the latest more often."""
        names = list(self.values)
        return names[-1] if self.random.random() < 0.6 else self.random.choice(names)

    def add(self, op: str, *args: Arg, **kwargs: Arg) -> bool:
        """Add a node if it works, takes each row alone and stays small."""

        def bound(arg: Arg, rows: int) -> object:
            if isinstance(arg, Ref):
                known = self.values.get(arg.name)
                return self.weights[arg.name] if known is None else known[:rows]
            return [bound(item, rows) for item in arg] if isinstance(arg, tuple) else arg

        try:
            value, part = (
                resolve(op)(*(bound(arg, rows) for arg in args), **kwargs) for rows in (MORE, ROWS)
            )
        except (RuntimeError, IndexError):
            return False
        alone = value.ndim > 1 and len(value) == MORE and value[:ROWS].shape == part.shape
        if not alone or not 0 < part.numel() <= 16 * ROWS or not torch.allclose(value[:ROWS], part):
            return False
        name = f"v{len(self.nodes)}"
        self.nodes.append(Node(name, op, args, tuple(kwargs.items())))
        self.values[name] = value
        return True

    def drop(self) -> None:
        """Drop units of a value, as long as there are few enough masks to try them all."""
        operand, rate = self.value(), self.random.choice([0.2, 0.5, 0.8, 0.8, 1.0])
        shape = (1, *self.values[operand].shape[1:])
        if sum(units(site.shape) for site in self.sites) + units(shape) > UNITS:
            return
        node = Node(f"v{len(self.nodes)}", "aten.dropout.default", (Ref(operand), rate, True))
        law = Law("bernoulli", rate, 0.0 if rate == 1.0 else 1 / (1 - rate))
        index, enabled = len(self.sites), self.random.random() < 0.9
        self.sites.append(
            Site(
                node.name, "dropout", rate, shape, law, node.name, index, 0, BatchLayout(0), enabled
            )
        )
        self.nodes.append(node)
        self.values[node.name] = self.values[operand]

    def step(self) -> None:
        """Add one node of a random kind."""
        a, b = Ref(self.value()), Ref(self.value())
        weight, number = Ref(self.random.choice(list(WEIGHTS))), self.random.choice([2, -0.5])
        dim, keep = self.random.choice([1, 2, -1]), self.random.random() < 0.5
        size = self.values[a.name][0].numel()
        either = self.random.choice([b, weight, Ref("x"), number])
        mixing: list[Call] = [
            ("aten.linear.default", (a, weight, Ref("c")), {}),
            ("aten.linear.default", (a, weight), {}),
            ("aten.matmul.default", (a, weight), {}),
            ("aten.matmul.default", (a, b), {}),
            ("aten.bmm.default", (b, a), {}),
            ("aten.addmm.default", (Ref("c"), a, weight), {"alpha": number}),
            ("aten.conv1d.default", (a, Ref("k"), Ref("c"), (1,), (1,)), {}),
        ]
        reducing: list[Call] = [
            ("aten.sum.dim_IntList", (a, (dim,), keep), {}),
            ("aten.mean.dim", (a, (dim,), keep), {}),
        ]
        single: list[Call] = [
            ("aten.add.Tensor", (a, either), {"alpha": number}),
            ("aten.sub.Tensor", (either if isinstance(either, Ref) else a, a), {}),
            ("aten.rsub.Scalar", (a, 3, number), {}),
            ("aten.mul.Tensor", (a, either), {}),
            ("aten.mul.Tensor", (either if isinstance(either, Ref) else a, a), {}),
            ("aten.div.Tensor", (a, Ref("c")), {}),
            ("aten.neg.default", (a,), {}),
            ("aten.relu.default", (a,), {}),
        ]
        moving: list[Call] = [
            ("aten.reshape.default", (a, (-1, 2, size // 2)), {}),
            ("aten.reshape.default", (a, (-1, size)), {}),
            ("aten.transpose.int", (a, 1, 2), {}),
            ("aten.unsqueeze.default", (a, dim), {}),
            ("aten.squeeze.dim", (a, dim), {}),
            ("aten.select.int", (a, dim, 1), {}),
            ("aten.slice.Tensor", (a, dim, 1, 3), {}),
            ("aten.flip.default", (a, (dim,)), {}),
            ("aten.expand.default", (a, (-1, 2, 2)), {}),
            ("aten.repeat.default", (a, (1, 2)), {}),
            ("aten.expand_as.default", (a, b), {}),
            ("aten.copy.default", (b, a), {}),
            ("aten.cat.default", ((a, b), dim), {}),
            ("aten.stack.default", ((a, b), dim), {}),
            ("aten.slice_scatter.default", (a, b, 1, 0, 1), {}),
            ("aten.zeros_like.default", (a,), {}),
        ]
        calls = self.random.choice([mixing, mixing, reducing, single, single, moving, moving])
        self.random.shuffle(calls)
        for op, args, kwargs in calls:
            if self.add(op, *args, **kwargs):
                return

    def program(self) -> Program:
        """A graph of several nodes with at least one drop-out."""
        while len(self.nodes) < STEPS or not self.sites:
            early = len(self.nodes) in (1, 2)
            if self.random.random() < (0.5 if early else 0.1):
                self.drop()
            else:
                self.step()
        name, value = list(self.values.items())[-1]
        graph = Graph(("x",), tuple(self.weights), tuple(self.nodes), (("y", name),)).pruned()
        return Program(
            graph,
            tuple(site for site in self.sites if site.node in graph),
            (TensorSpec(name="x", dtype="float64", shape=(None, 4)),),
            (TensorSpec(name="y", dtype="float64", shape=(None, *value.shape[1:])),),
            {name: self.weights[name] for name in graph.weights},
        )


def every(program: Program, x: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """Probabilities of all masks of the enabled sites, and the outputs under each of them."""
    sizes = [units(site.shape) for site in program.active]
    rates = [site.p for site, size in zip(program.active, sizes, strict=True) for _ in range(size)]
    drawn = enumeration.masks(rates)
    run = Executable(program.stochastic, program.device)
    outputs = []
    for _, kept in drawn:
        parts = torch.tensor(kept, dtype=torch.float64).split(sizes) if sizes else ()
        masks = {
            site.mask: part.reshape(1, *site.shape) * site.law.scale
            for site, part in zip(program.active, parts, strict=True)
        }
        outputs.append(run({"x": x, **program.weights, **masks}))
    chances = np.array([chance for chance, _ in drawn])
    return chances, [torch.stack(values).numpy() for values in zip(*outputs, strict=True)]


def weighted(chances: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.tensordot(chances, values, 1)


@pytest.mark.parametrize("block", range(10))
def test_whatever_is_accepted_is_exact(block: int) -> None:
    accepted = left = 0
    for seed in range(block * GRAPHS, (block + 1) * GRAPHS):
        maker = Maker(seed)
        program = maker.program()
        try:
            head = analytic_head(program)
        except InputError:
            continue
        accepted += 1
        left += bool(head.active)
        chances, (y,) = every(program, maker.x)
        mean = weighted(chances, y)
        variance = weighted(chances, (y - mean) ** 2)
        chances, (given, spread) = every(head, maker.x)
        total = weighted(chances, (given - mean) ** 2) + weighted(chances, spread)
        scale = 1 + np.abs(y).max()
        message = f"seed {seed}: {program.graph.nodes}"
        np.testing.assert_allclose(
            weighted(chances, given), mean, atol=1e-12 * scale, err_msg=message
        )
        np.testing.assert_allclose(total, variance, atol=1e-12 * scale**2, err_msg=message)
    assert accepted >= GRAPHS // 10, "too few graphs were accepted to show anything"
