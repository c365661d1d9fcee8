"""Ragged estimates against the ordinary ones, which are held to naive oracles of their own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcdrop.estimate import BlockMoments, RaggedMoments, estimator, ragged_estimator
from mcdrop.tasks import Binary, Classification, Gaussian, Regression

BLOCK = 16
TASKS = {
    "classification": (Classification(), (3, 4)),
    "segmentation": (Classification(), (3, 4, 2)),
    "probs": (Classification(output="probs"), (3, 4)),
    "binary": (Binary(), (3, 2)),
    "regression": (Regression(noise_variance=0.3), (3, 2)),
    "gaussian": (Gaussian(), (3, 4)),
}


def outputs_of(task, samples, shape, seed=0):
    raw = torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed))
    return raw.softmax(2) if getattr(task, "output", "") == "probs" else raw


def same(found, expected):
    for name, value in expected.fields().items():
        torch.testing.assert_close(
            found.fields()[name], value, rtol=1e-5, atol=1e-6, equal_nan=True, msg=name
        )


@pytest.mark.parametrize("block", [1, BLOCK])
@pytest.mark.parametrize("name", TASKS)
def test_rows_with_different_samples_are_each_what_they_are_alone(name, block):
    task, shape = TASKS[name]
    counts = [1, 15, 16, 17, 32, 100]
    raw = outputs_of(task, 112, (len(counts), *shape[1:]))
    ragged = ragged_estimator(task, block, temperature=1.0)
    # every row takes its blocks in an order of its own, beside whoever takes the same
    orders = [
        [((b + row) % -(-count // BLOCK)) for b in range(-(-count // BLOCK))]
        for row, count in enumerate(counts)
    ]
    for step in range(7):
        wanted = {}
        for row, order in enumerate(orders):
            if step < len(order):
                start = order[step] * BLOCK
                wanted.setdefault((start, min(counts[row], start + BLOCK)), []).append(row)
        for (start, stop), rows in wanted.items():
            ragged.update((raw[start:stop, rows],), torch.tensor(rows) + 3, room=12)
    found = ragged.prediction(torch.arange(len(counts)) + 3)
    for row, count in enumerate(counts):
        whole = estimator(task, block)
        whole.update((raw[:count, row : row + 1],), 0)
        same(found.rows(torch.tensor([row])), whole.prediction())
    assert found.samples.tolist() == counts


@settings(deadline=None)
@given(
    st.integers(1, 200),
    st.floats(-1e6, 1e6),
    st.integers(0, 2**32),
    st.sampled_from([1, BLOCK]),
)
def test_moments_equal_those_of_one_pass(count, offset, seed, size):
    values = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)).double() + offset
    blocks = torch.randperm(-(-count // BLOCK), generator=torch.Generator().manual_seed(seed))
    parts = [RaggedMoments.of(values[b * BLOCK : (b + 1) * BLOCK], size) for b in blocks.tolist()]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    whole = BlockMoments.of(values, 0, size)
    close = {"rtol": 1e-6, "atol": 1e-6, "equal_nan": True}
    torch.testing.assert_close(merged.mean, whole.mean, **close)
    for found, expected in zip(merged.deviations(size), whole.deviations(), strict=True):
        torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(merged.expected_error(size), whole.expected_error(), **close)


def test_a_slot_that_was_cleared_knows_nothing_of_its_last_row():
    task, shape = TASKS["classification"]
    raw = outputs_of(task, 32, shape)
    ragged = ragged_estimator(task, BLOCK)
    slots = torch.arange(3)
    ragged.update((raw[:16],), slots, room=3)
    ragged.clear([1, 7])
    ragged.update((raw[16:, 1:2],), slots[1:2], room=5)  # more room keeps what is held
    fresh = estimator(task, BLOCK)
    fresh.update((raw[16:, 1:2],), 16)
    same(ragged.prediction(slots[1:2]), fresh.prediction())
    kept = estimator(task, BLOCK)
    kept.update((raw[:16, ::2],), 0)
    same(ragged.prediction(slots[::2]), kept.prediction())


def test_a_temperature_is_at_work_in_each_sample():
    task, shape = TASKS["classification"]
    raw = outputs_of(task, 16, shape)
    ragged, whole = (
        ragged_estimator(task, BLOCK, temperature=2.5),
        estimator(task, BLOCK, temperature=2.5),
    )
    ragged.update((raw,), torch.arange(3), room=3)
    whole.update((raw,), 0)
    same(ragged.prediction(torch.arange(3)), whole.prediction())
