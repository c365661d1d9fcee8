"""Every architecture against a naive PyTorch loop: mean and standard deviation of 400 samples.

For each output element two z statistics compare 400 of our samples with 400 of the loop's. With K
elements, the bound is the normal quantile at 1 - 1e-6 / (4 K): by Bonferroni, a correct engine
fails an architecture with probability at most 1e-6 as far as the statistics are normal. Seeds are
fixed, so the test gives the same answer every time.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mcdrop
from tests import zoo
from tests.reference.naive import naive_samples

SAMPLES = 400
FALSE_ALARM = 1e-6


@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_mean_and_deviation_agree_with_a_naive_loop(name: str, masks: str) -> None:
    module, inputs = zoo.build(name)
    mc = mcdrop.MCDropout(zoo.program(name), task="regression", masks=masks)
    ours = mc.sample(inputs, samples=SAMPLES, seed=1).double()
    naive = naive_samples(
        module, lambda m: zoo.entry(zoo.call(m, inputs)), SAMPLES, seed=2
    ).double()
    assert ours.shape == naive.shape
    z_mean, z_variance = _z_scores(ours, naive)
    elements = ours[0].numel()
    bound = float(torch.special.ndtri(torch.tensor(1 - FALSE_ALARM / (4 * elements)).double()))
    assert float(z_mean.abs().max()) < bound
    assert float(z_variance.abs().max()) < bound
    assert float(ours.var(0).max()) > 1e-6, "the samples do not vary"


def _z_scores(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    va, vb = a.var(0), b.var(0)
    # an element that no site reaches is the same in every sample of both
    floor = 1e-12 * (1 + a.mean(0).square())
    z_mean = (a.mean(0) - b.mean(0)) / ((va + vb) / SAMPLES + floor).sqrt()
    spread = (_variance_of_variance(a) + _variance_of_variance(b)) / SAMPLES
    return z_mean, (va - vb) / (spread + floor * (va + vb) + 1e-20).sqrt()


def _variance_of_variance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return (centred.pow(4).mean(0) - centred.square().mean(0).square()).clamp_min(0)
