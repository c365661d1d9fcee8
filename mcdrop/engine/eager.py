"""The eager engine: the module itself, its random operations fed from the mask stream.

For modules that cannot be traced. Slower than the others, and without artifacts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mcdrop.capture.example import Example
from mcdrop.capture.intercept import Draw, Intercept, means, plain_tensors
from mcdrop.capture.outputs import flatten
from mcdrop.capture.trace import monte_carlo_copy
from mcdrop.engine.plan import Plan, Way
from mcdrop.errors import CaptureError
from mcdrop.program.kernels import aligned
from mcdrop.program.schema import LookupErrors
from mcdrop.program.site import BatchLayout, Kind, Law, Site
from mcdrop.sampling import MaskBank, Masks, Sampling

# Numbers of rows of the two passes that show which axis of a site holds the rows.
_FEW, _MANY = 2, 3


class EagerEngine:
    """Runs the module once for each sample.

    Sites are told apart by their order, so a draw whose result is not used shifts those behind it.
    Where rows are folded into another axis, they are taken to vary slowest. Rates of hand-written
    masks are not known.

    Args:
        module: what to sample; it is copied, never changed.
        example: inputs to find the sites with.
        outputs: names of the outputs wanted.
        masks: shared across rows or independent.
        sampling: balanced or iid.
    """

    name = "eager"

    def __init__(
        self,
        module: nn.Module,
        example: Example,
        outputs: Sequence[str],
        masks: Masks,
        sampling: Sampling,
    ) -> None:
        self._sampled = monte_carlo_copy(module, share=False)
        self._evaluated = monte_carlo_copy(self._sampled).eval()
        self._lock = Lock()  # a pass may write into buffers, which all threads share
        self._buffers = {
            copied: [(buffer, buffer.clone()) for buffer in copied.buffers()]
            for copied in (self._sampled, self._evaluated)
        }
        self._example = example
        self.inputs = example.specs()
        self._outputs = tuple(outputs)
        self.masks: Masks = masks
        self.sampling: Sampling = sampling
        few, many = (self._record(rows) for rows in (_FEW, _MANY))
        if len(few) != len(many):
            raise CaptureError(
                f"the module draws random numbers {len(few)} times for {_FEW} rows and {len(many)} "
                f"times for {_MANY}: its sites cannot be told apart"
            )
        self.sites = tuple(
            _site(index, a, b) for index, (a, b) in enumerate(zip(few, many, strict=True))
        )

    def plan(self, inputs: Mapping[str, Tensor], samples: int, seed: int) -> Plan:
        """All rows, one sample at a time."""
        del samples, seed
        way = Way(self.name, 1)
        return Plan(next(iter(inputs.values())).shape[0], way, way)

    def open(
        self, plan: Plan, inputs: Mapping[str, Tensor], seed: int, rows: Sequence[int]
    ) -> EagerRun:
        """Remember the rows."""
        del plan
        return EagerRun(self, dict(inputs), seed, tuple(rows))

    def deterministic(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs in evaluation mode, any noise of its own at its mean."""
        with plain_tensors(), Intercept(means):
            return self._pick(self._evaluated, inputs)

    def sample(self, inputs: Mapping[str, Tensor], draw: Draw) -> tuple[Tensor, ...]:
        """The outputs of one stochastic pass."""
        device = next(iter(inputs.values())).device
        with plain_tensors(), _plain_kernels(device), Intercept(draw):
            return self._pick(self._sampled, inputs)

    def _pick(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        plain = {n: t.clone() if t.is_inference() else t for n, t in inputs.items()}
        with self._lock:
            for buffer, kept in self._buffers[module]:
                buffer.copy_(kept)  # a pass may move it; each starts from the same state
            named = flatten(self._example.call(module, plain))
            return tuple(named[name] for name in self._outputs)

    def _record(self, rows: int) -> list[_Seen]:
        seen: list[_Seen] = []

        def record(law: str, keep: float, like: Tensor) -> Tensor:
            seen.append(_Seen(law, keep, tuple(like.shape)))
            return means(law, keep, like)

        self.sample(self._example.with_rows(rows), record)
        return seen


@dataclass(frozen=True, slots=True)
class _Seen:
    law: str
    keep: float
    shape: tuple[int, ...]


def _site(index: int, few: _Seen, many: _Seen) -> Site:
    moving = [i for i, (a, b) in enumerate(zip(few.shape, many.shape, strict=True)) if a != b]
    layout = None
    shape: list[int | None] = list(few.shape)
    if moving:
        dim = moving[0]
        around = few.shape[dim] // _FEW
        layout = BatchLayout(dim, 1, folded=around > 1)
        shape[dim] = around
    kinds: dict[str, Kind] = {
        "bernoulli": "bernoulli",
        "uniform": "uniform",
        "normal": "normal",
        "exponential": "exponential",
    }
    drops = few.law == "bernoulli"
    law = (
        Law("bernoulli", 1.0 - few.keep)
        if drops
        else Law("normal" if few.law == "normal" else "uniform")
    )
    return Site(
        name=f"site{index}",
        kind=kinds[few.law],
        p=1.0 - few.keep if drops else None,
        shape=tuple(shape),
        law=law,
        node="",
        index=index,
        layout=layout,
    )


class _Draw:
    """Feeds the random operations of one pass, in order, from the mask stream."""

    def __init__(self, run: EagerRun, sample: int) -> None:
        self._run = run
        self._sample = sample
        self._next = 0

    def __call__(self, _law: str, _keep: float, like: Tensor) -> Tensor:
        run = self._run
        if self._next >= len(run.engine.sites):
            raise CaptureError(
                f"the module drew random numbers more than {self._next} times, unlike on the "
                f"example: "
                "which sites it has must not depend on the data"
            )
        site = run.engine.sites[self._next]
        self._next += 1
        shape = list(like.shape)
        if site.layout is not None:
            shape[site.layout.dim] //= len(run.rows)
        bank = run.bank(site, tuple(shape), like.device)
        mask = bank.draw(range(self._sample, self._sample + 1), run.rows)[0][0]
        if site.layout is None:
            return mask[0]
        dim = site.layout.dim
        return aligned(mask, like.shape[dim], dim, 1, site.layout.folded).expand(like.shape)


class EagerRun:
    """Rows, and the banks to sample them with.

    Args:
        engine: what runs.
        inputs: tensors by name.
        seed: of the mask stream.
        rows: their numbers in the caller's batch.
    """

    def __init__(
        self,
        engine: EagerEngine,
        inputs: Mapping[str, Tensor],
        seed: int,
        rows: tuple[int, ...],
    ) -> None:
        self.engine = engine
        self.inputs = inputs
        self.rows = rows
        self._seed = seed
        self._banks: dict[tuple[int, tuple[int, ...]], MaskBank] = {}

    def bank(self, site: Site, shape: tuple[int, ...], device: torch.device) -> MaskBank:
        """The masks of one site; its shape shows when it draws."""
        key = (site.index, shape)
        if key not in self._banks:
            self._banks[key] = MaskBank(
                self._seed,
                (site,),
                (shape,),
                masks=self.engine.masks,
                sampling=self.engine.sampling,
                device=device,
            )
        return self._banks[key]

    def chunks(self, start: int, stop: int) -> Iterator[range]:
        """One sample at a time."""
        return (range(sample, sample + 1) for sample in range(start, stop))

    def samples(self, chunk: range) -> tuple[Tensor, ...]:
        """Outputs of a chunk, each `[S, B, ...]`."""
        with torch.no_grad(), LookupErrors():
            passes = [self.engine.sample(self.inputs, _Draw(self, sample)) for sample in chunk]
        return tuple(torch.stack(outputs) for outputs in zip(*passes, strict=True))


@contextmanager
def _plain_kernels(device: torch.device) -> Iterator[None]:
    """Keep dropout out of CUDA's fused kernels, in which it could not be reached."""
    if device.type != "cuda":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield
