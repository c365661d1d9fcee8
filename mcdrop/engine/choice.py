"""Which engines can run a program at all: each is tried on rows of zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from mcdrop.engine.batched import BatchedEngine
from mcdrop.engine.engine import Engine
from mcdrop.engine.loop import LoopEngine
from mcdrop.engine.memory import is_out_of_memory
from mcdrop.engine.packed import PackedEngine
from mcdrop.engine.precision import Precision, arithmetic
from mcdrop.engine.thinned import ThinnedEngine
from mcdrop.errors import ArtifactError, InputError
from mcdrop.program.program import Program
from mcdrop.program.schema import dtype_of
from mcdrop.sampling import MaskBank

EngineName = Literal["auto", "loop", "batched", "thinned", "packed"]

_NOT_FOR_ZEROS = (IndexError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]


class Choice:
    """Chooses engines by name, or those among which trials are to decide.

    Args:
        program: what they are to sample.
        precision: of products.
        bank: makes masks for inputs.
    """

    def __init__(
        self,
        program: Program,
        precision: Precision,
        bank: Callable[[Mapping[str, Tensor], int], MaskBank],
    ) -> None:
        self._program = program
        self._precision: Precision = precision
        self._bank = bank

    def engines(
        self, name: EngineName, thinned: ThinnedEngine, packed: PackedEngine
    ) -> dict[str, Engine]:
        """The engines of a name, by theirs.

        Raises:
            InputError: the one that was asked for cannot run the program.
            ArtifactError: nothing can.
        """
        batched = BatchedEngine(self._program)
        if name == "auto":
            return self._all(batched, thinned, packed)
        if name == "loop":
            return {"loop": LoopEngine(self._program)}
        if name == "thinned" and not thinned.applies:
            said = "; ".join(thinning(thinned)) or f"masks are {thinned.masks}"
            raise InputError(f'engine="thinned" finds no site to thin: {said}. Take engine="auto"')
        if name == "packed" and (obstacle := self._unpacked(packed)) is not None:
            raise InputError(f'engine="packed" does not apply: {obstacle}. Take engine="auto"')
        named: dict[str, Engine] = {"batched": batched, "thinned": thinned, "packed": packed}
        return {name: self._required(named[name])}

    def _all(
        self, batched: BatchedEngine, thinned: ThinnedEngine, packed: PackedEngine
    ) -> dict[str, Engine]:
        if self._obstacle(batched) is not None:
            return {"loop": self._last_resort()}
        engines: dict[str, Engine] = {"batched": batched}
        if thinned.applies and self._obstacle(thinned) is None:
            engines["thinned"] = thinned
            if packed.fits and self._unpacked(packed) is None and self._obstacle(packed) is None:
                engines["packed"] = packed
        return engines

    def _unpacked(self, packed: PackedEngine) -> str | None:
        return packed.obstacle if self._precision == "float32" else "it is for float32"

    def _required(self, engine: Engine) -> Engine:
        obstacle = self._obstacle(engine)
        if obstacle is not None:
            raise InputError(
                f'engine="{engine.name}" cannot run this model'
                f"{' in ' + self._precision if self._precision != 'float32' else ''}: "
                f'{obstacle}. Take engine="auto"'
            )
        return engine

    def _obstacle(self, engine: Engine) -> str | None:
        """Why an engine cannot take the tail, tried on two rows of zeros and two samples."""
        try:
            self._try(engine)
        except _NOT_FOR_ZEROS:
            return None  # zeros are not what the model takes; vmap had no objection so far
        except RuntimeError as error:
            return str(error).partition("\n")[0] or type(error).__name__
        return None

    def _last_resort(self) -> LoopEngine:
        """The loop, tried as well: what it cannot run would be loaded, and never predict."""
        engine = LoopEngine(self._program)
        try:
            self._try(engine)
        except (*_NOT_FOR_ZEROS, NotImplementedError):
            pass  # zeros are not what it takes; the device lacks a kernel, which its caller says
        except RuntimeError as error:
            if not is_out_of_memory(error):  # one row may fit
                said = str(error)[:200]
                raise ArtifactError(f"the graph does not run on zeros: {said}") from None
        return engine

    def _try(self, engine: Engine) -> None:
        inputs = zeros(self._program, 2)
        with torch.no_grad(), arithmetic(self._precision, self._program.device):
            engine.open(inputs, self._bank(inputs, 0), range(2)).samples(0, 2)


def zeros(program: Program, rows: int) -> dict[str, Tensor]:
    """Inputs of the smallest shapes."""
    return {
        spec.name: torch.zeros(
            (rows, *spec.smallest()), dtype=dtype_of(spec.dtype), device=program.device
        )
        for spec in program.inputs
    }


def thinning(engine: ThinnedEngine) -> list[str]:
    """What becomes of each site, for people."""
    return [f"site {name!r}: {how}" for name, how in engine.reasons.items()]
