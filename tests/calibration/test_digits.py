"""Digits with a fifth of the training labels shuffled: what recalibration makes of them.

Ten splits: 900 to train, 450 to calibrate, 447 to test. `-m slow`: about half a minute.
"""

from __future__ import annotations

from statistics import mean

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mcdrop
from mcdrop import calibration as c
from mcdrop.metrics import functional as f

SPLITS = 10


def _net(images: Tensor, labels: Tensor) -> nn.Sequential:
    layers = [nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 256), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(256, 10))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(60):
        for rows in torch.randperm(len(images)).split(64):
            optimiser.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimiser.step()
    return net.eval()


def _split(seed: int) -> dict[str, float]:
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    images = (images / 16.0).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        train, held, fresh = torch.randperm(len(images)).split((900, 450, len(images) - 1350))
        noisy = labels.clone()
        shuffled = train[torch.randperm(len(train))[: len(train) // 5]]
        noisy[shuffled] = noisy[shuffled][torch.randperm(len(shuffled))]
        net = _net(images[train], noisy[train])
    mc = mcdrop.MCDropout(net, images[:2], task="classification", engine="batched")
    before, after = (mc.sample(images[part], samples=128) for part in (held, fresh))
    known, raw = (samples.softmax(-1).mean(0) for samples in (before, after))
    temperature = c.Temperature.fit(probs=known, labels=labels[held])
    probs = {"raw": raw, "calibrated": temperature(probs=raw)}
    found = {
        name: f.debiased_calibration_error(probs=given, labels=labels[fresh], norm="l1").item()
        for name, given in probs.items()
    }
    for score in ("thr", "aps"):
        sets = c.ConformalSets.fit(
            probs=temperature(probs=known), labels=labels[held], score=score, allow_empty=True
        )
        right = sets(probs["calibrated"]).gather(1, labels[fresh, None])
        found[score] = right.double().mean().item()
    return found


@pytest.mark.slow
def test_temperature_and_sets_on_noisy_digits() -> None:
    """Means over the splits; the coverage of a split has a standard deviation of about 2%."""
    found = [_split(seed) for seed in range(SPLITS)]
    means = {name: mean(row[name] for row in found) for name in found[0]}
    assert means["raw"] > 0.1
    assert means["calibrated"] < 0.02
    assert 0.89 <= means["thr"] <= 0.91
