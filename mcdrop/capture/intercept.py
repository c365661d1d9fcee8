"""Taking over every random operation of a module that runs eagerly.

Under a dispatch mode all of dropout (plain, attention, between recurrent layers) comes down to a
few random ATen operations. The mode replaces them, so the global generators are neither read nor
advanced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mcdrop.errors import CaptureError

aten = torch.ops.aten
# What a random operation draws: ("bernoulli", keep probability), ("uniform", …), ("normal", …).
Draw = Callable[[str, float, Tensor], Tensor]

_IN_PLACE: Mapping[Any, str] = MappingProxyType(
    {
        aten.bernoulli_.float: "bernoulli",
        aten.uniform_.default: "uniform",
        aten.normal_.default: "normal",
        aten.exponential_.default: "exponential",
    }
)
_CREATE: Mapping[Any, str] = MappingProxyType(
    {
        aten.rand.default: "uniform",
        aten.rand_like.default: "uniform",
        aten.randn.default: "normal",
        aten.randn_like.default: "normal",
    }
)


class Intercept(TorchDispatchMode):
    """Replaces random operations by what `draw(law, keep, like)` returns.

    `draw` returns, in the shape of `like`: for `"bernoulli"` ones and zeros (or their mean), for
    `"uniform"` and `"exponential"` numbers on [0, 1), for `"normal"` standard normal numbers.
    """

    def __init__(self, draw: Draw) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own, untyped
        self._draw = draw

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        if func in _IN_PLACE:
            result: Any = self._in_place(func, args, kwargs)
        elif func in _CREATE:
            result = self._create(func, args, kwargs)
        elif func is aten.bernoulli.p:
            result = self._draw("bernoulli", float(args[1]), args[0]).to(args[0].dtype)
        elif func is aten.bernoulli.default:
            result = (self._draw("uniform", 0.0, args[0]) < args[0]).to(args[0].dtype)
        elif func is aten.native_dropout.default:
            result = self._dropout(args)
        elif not _draws(func, args, kwargs):
            result = func(*args, **kwargs)
        else:
            raise _unknown(func)
        return result

    def _in_place(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        law = _IN_PLACE[func]
        target, first, second = (*_parameters(func, args, kwargs), 1.0)[:3]
        noise = self._draw(law, first, target)
        if law == "uniform":
            noise = first + (second - first) * noise
        elif law == "normal":
            noise = first + second * noise
        elif law == "exponential":
            noise = -torch.log1p(-noise) / first
        filled: Tensor = target.copy_(noise)
        return filled

    def _create(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        like: Tensor
        if func in (aten.rand.default, aten.randn.default):
            like = aten.zeros.default(args[0], **kwargs)
        else:
            like = aten.zeros_like.default(args[0], **kwargs)
        return self._draw(_CREATE[func], 0.0, like).to(like.dtype)

    def _dropout(self, args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        x, p, train = args
        if train is False or p == 0:
            return x, torch.ones_like(x, dtype=torch.bool)
        kept = self._draw("bernoulli", 1.0 - p, x)
        return x * kept / (1.0 - p) if p < 1 else x * 0.0, kept.bool()


def _unknown(func: Any) -> CaptureError:
    return CaptureError(
        f"the model draws random numbers with {func}, which mcdrop does not sample; "
        "use dropout, rand, randn, bernoulli, uniform_, normal_ or exponential_ instead"
    )


def _parameters(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The positional arguments of a call; torch leaves out those that equal their defaults."""
    arguments = [a for a in func._schema.arguments if not a.kwarg_only]  # noqa: SLF001 (no accessor)
    rest = arguments[len(args) :]
    return [*args, *(kwargs.get(argument.name, argument.default_value) for argument in rest)]


def _draws(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a kernel really draws: fused attention with dropout 0 does not."""
    arguments = [a.name for a in func._schema.arguments if not a.kwarg_only]  # noqa: SLF001
    values = dict(zip(arguments, _parameters(func, args, kwargs), strict=True))
    rates = [
        values[name] for name in ("dropout_p", "dropout", "train", "training") if name in values
    ]
    return all(rates)


def means(law: str, keep: float, like: Tensor) -> Tensor:
    """The draw that switches all noise off: every random number is its mean.

    (For an exponential this is the uniform number whose transform is the mean.)
    """
    value = {
        "bernoulli": keep,
        "uniform": 0.5,
        "normal": 0.0,
        "exponential": 1.0 - 2.718281828459045**-1,
    }
    return torch.full_like(like, value[law], dtype=torch.float32)


@contextmanager
def plain_tensors() -> Iterator[None]:
    """No gradients, and no inference tensors, whose operations a dispatch mode does not see."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield
