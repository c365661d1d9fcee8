"""Which numbers of a model are rates, and which of them can be set."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from mcdrop.errors import InputError

Layers = nn.Module | Sequence[nn.Module]


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """A probability to drop, held by a module.

    Attributes:
        name: path of the module; with the attribute behind it where the module may have several.
        module: whose rate it is.
        attribute: under which it lies there.
        learned: whether it is trained, and so not for others to set.
        named: whether only its own name selects it, as of a second rate of a module.
    """

    name: str
    module: nn.Module
    attribute: str
    learned: bool = False
    named: bool = False

    @property
    def value(self) -> float:
        """The rate as it is now; reading a learned one waits for the device."""
        value = getattr(self.module, self.attribute)
        return float(value.detach() if isinstance(value, Tensor) else value)

    def matches(self, pattern: str) -> bool:
        """Whether a pattern means it.

        `"*.p_recurrent"` means second rates of that name; `"encoder.*"` means modules, by their
        path or by path and attribute.
        """
        if self.named:
            return pattern.rpartition(".")[2].startswith("p_") and fnmatchcase(self.name, pattern)
        full = f"{self.name}.{self.attribute}"
        return fnmatchcase(self.name, pattern) or fnmatchcase(full, pattern)


def rates(layers: Layers) -> Iterator[Rate]:
    """Every rate of a model, or of a list of layers, in the order of its modules.

    A shared module comes once. A layer that is itself the model goes by the name of its class.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2), nn.GRU(2, 2, 2, dropout=0.1))
        >>> [(rate.name, rate.attribute, rate.value) for rate in rates(net)]
        [('1', 'p', 0.2), ('2', 'dropout', 0.1)]
    """
    seen: set[nn.Module] = set()
    several = not isinstance(layers, nn.Module)
    for place, layer in enumerate(layers if not isinstance(layers, nn.Module) else (layers,)):
        prefix = str(place) if several else ""
        for path, module in layer.named_modules(seen, prefix):
            yield from _of(module, path)


def _of(module: nn.Module, path: str) -> Iterator[Rate]:
    if isinstance(module, _Loss):  # whose p is the power of a norm
        return
    main = "p"
    if isinstance(module, nn.MultiheadAttention):
        main = "dropout"
    elif isinstance(module, nn.RNNBase) and not hasattr(module, "p"):  # torch's, not variational
        if module.num_layers == 1:  # drops between its layers: with one, nowhere
            return
        main = "dropout"
    own = type(module).__name__
    learned = _learned(module, main)
    if learned is not None:
        yield Rate(path or own, module, main, learned)
    for name in vars(module):
        if name.startswith("p_") and _learned(module, name) is not None:
            yield Rate(f"{path}.{name}".removeprefix("."), module, name, named=True)


def _learned(module: nn.Module, name: str) -> bool | None:
    """Whether a rate is learned; None where there is no rate of that name."""
    value = getattr(module, name, None)
    trained = isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point()
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not (trained or plain):
        return None
    static = inspect.getattr_static(type(module), name, None)
    learned = trained or (isinstance(static, property) and static.fset is None)
    rate = Rate(name, module, name).value
    # a training that went astray has its rate still
    return learned if 0.0 <= rate <= 1.0 or (learned and math.isnan(rate)) else None


def settable(layers: Layers, sites: str | Sequence[str] | None) -> tuple[Rate, ...]:
    """The rates that a schedule is to drive.

    Args:
        layers: a model, a layer, or a list of layers.
        sites: patterns of their names; all but second rates by default.

    Raises:
        InputError: there are none, or one that was asked for is learned.
    """
    known = tuple(rates(_checked(layers)))
    if sites is not None:
        return _selected(known, sites)
    chosen = tuple(rate for rate in known if not rate.learned and not rate.named)
    if not chosen:
        raise InputError(f"found no layer whose rate can be set{_have(known)}")
    if not isinstance(layers, nn.Module):
        _every_one(layers)
    return chosen


def _checked(layers: Layers) -> Layers:
    if isinstance(layers, nn.Module):
        return layers
    if not isinstance(layers, Sequence) or not all(isinstance(m, nn.Module) for m in layers):
        raise InputError(
            "a schedule takes a model, a layer, or a list of layers, all of them modules; got "
            f"{type(layers).__name__}"
        )
    return layers


def _every_one(layers: Sequence[nn.Module]) -> None:
    """Whoever is in a list was asked for, and must have a rate to set."""
    for place, layer in enumerate(layers):
        own = tuple(rates(layer))
        if not any(not rate.learned and not rate.named for rate in own):
            raise InputError(
                f"layer {place} of the list, {type(layer).__name__}, has no rate that can be "
                f"set{_have(own)}"
            )


def _selected(known: Sequence[Rate], sites: str | Sequence[str]) -> tuple[Rate, ...]:
    patterns = [sites] if isinstance(sites, str) else sites
    texts = isinstance(patterns, Sequence) and all(isinstance(p, str) for p in patterns)
    if not texts or not patterns:
        raise InputError(f"sites must be a pattern or a list of patterns; got {sites!r}")
    for pattern in patterns:
        found = [rate for rate in known if rate.matches(pattern)]
        if not any(not rate.learned for rate in found):
            reason = "matches only learned rates" if found else "matches no layer with a rate"
            raise InputError(f"sites: {pattern!r} {reason}{_have(known)}")
    return tuple(rate for rate in known if not rate.learned and any(map(rate.matches, patterns)))


def _have(known: Sequence[Rate]) -> str:
    """What there is instead, and what to do."""
    free = ", ".join(repr(rate.name) for rate in known if not rate.learned and not rate.named)
    second = ", ".join(repr(rate.name) for rate in known if not rate.learned and rate.named)
    learned = ", ".join(
        f"{rate.name!r} ({type(rate.module).__name__})" for rate in known if rate.learned
    )
    parts = [f"rates that can be set: {free or 'none'}"]
    if second:
        parts.append(f"and, if sites= names them: {second}")
    if learned:
        parts.append(
            f"learned: {learned}, which gradients set and a schedule would work against; leave "
            "them out, or put a layer with a fixed rate in their place"
        )
    return "; " + "; ".join(parts)
