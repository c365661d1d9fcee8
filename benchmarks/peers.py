"""The peers, from their own packages: baal and torch-uncertainty.

They are pinned in `peers.txt` and live in `.venv-peers`, which `make bench` sets up; without them
there is nothing here to run. Each is used as its documentation says, in all its ways.
"""

from __future__ import annotations

import copy
import importlib.util
from importlib.metadata import distribution
from types import ModuleType

import torch
from torch import Tensor

from benchmarks.sides import Moments, Side, moments
from benchmarks.workloads import Workload

PACKAGES = ("baal", "torch-uncertainty")


def installed() -> bool:
    """Whether this is the environment of `make bench`."""
    return all(importlib.util.find_spec(name.replace("-", "_")) for name in PACKAGES)


def build(work: Workload) -> list[Side]:
    """Every way of every peer; none where they are not installed."""
    return [*baal(work), *torch_uncertainty(work)] if installed() else []


def baal(work: Workload) -> list[Side]:
    """`ModelWrapper.predict_on_batch` over `MCDropoutModule`: rows repeated, loop, cached loop.

    The last one wraps every linear and convolution layer in `MCCachingModule`, which hands out the
    layer's last answer where the same input comes again.
    """
    from baal import ModelWrapper
    from baal.bayesian.caching_utils import MCCachingModule
    from baal.bayesian.dropout import MCDropoutModule
    from baal.modelwrapper import TrainingArgs

    def side(variant: str, *, replicate: bool, cached: bool = False) -> Side:
        module = MCDropoutModule(copy.deepcopy(work.module))
        if cached:
            module = MCCachingModule(module)
        arguments = TrainingArgs(replicate_in_memory=replicate, use_cuda=work.x.is_cuda)
        wrapper = ModelWrapper(module, arguments)
        wrapper.eval()

        def run(x: Tensor) -> Moments:
            out = wrapper.predict_on_batch(x, work.samples)  # [B, ..., S]
            return out.mean(-1), out.var(-1)

        return Side("baal", variant, run)

    return [
        side("rows repeated", replicate=True),
        side("loop", replicate=False),
        side("cached loop", replicate=False, cached=True),
    ]


def torch_uncertainty(work: Workload) -> list[Side]:
    """`mc_dropout(model, num_estimators)`, on the batch (its default) or in a loop."""
    wrap = _methods().mc_dropout

    def side(variant: str, *, on_batch: bool) -> Side:
        module = wrap(copy.deepcopy(work.module), work.samples, on_batch=on_batch).eval()

        def run(x: Tensor) -> Moments:
            with torch.no_grad():
                return moments(module(x).unflatten(0, (work.samples, -1)))

        return Side("torch-uncertainty", variant, run)

    return [side("rows repeated", on_batch=True), side("loop", on_batch=False)]


def _methods() -> ModuleType:
    """The installed `methods/mc_dropout.py` alone: the package's import asks for torchvision."""
    file = distribution("torch-uncertainty").locate_file("torch_uncertainty/methods/mc_dropout.py")
    spec = importlib.util.spec_from_file_location("torch_uncertainty_mc_dropout", str(file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
