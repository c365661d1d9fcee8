"""Replaying chunks: the bookkeeping on a CPU with a stand-in recorder, the real one on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.engine.graphs import CudaRecorder, Graphs


class Rerun:
    """Replays by running again, into the same outputs, as a CUDA graph does."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def record(self, call: Callable[[], tuple[Tensor, ...]]):
        self.recorded += 1
        outputs = call()

        def replay() -> None:
            self.replayed += 1
            for output, fresh in zip(outputs, call(), strict=True):
                output.copy_(fresh)

        return outputs, replay


def _function(x: Tensor, scale: float, y: Tensor) -> tuple[Tensor, ...]:
    return (x * scale + y, x.sum()[None])


def test_a_shape_is_replayed_from_its_third_use_on() -> None:
    recorder = Rerun()
    graphs = Graphs(_function, recorder)
    answers = []
    for step in range(6):
        x, y = torch.randn(3, 2), torch.randn(2)
        answers.append((graphs(x, 2.0, y), _function(x, 2.0, y)))
        assert recorder.recorded == (step >= 2)
    assert recorder.replayed == 4
    for got, expected in answers:  # also the earlier ones: a replay overwrites no answer
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b)


def test_shapes_types_and_numbers_are_told_apart() -> None:
    recorder = Rerun()
    graphs = Graphs(_function, recorder)
    for scale in (2.0, 3.0):
        for dtype in (torch.float32, torch.float64):
            for rows in (3, 4):
                for _ in range(4):
                    x, y = torch.randn(rows, 2, dtype=dtype), torch.randn(2, dtype=dtype)
                    torch.testing.assert_close(
                        graphs(x, scale, y)[0], _function(x, scale, y)[0], rtol=0, atol=0
                    )
    assert recorder.recorded == 8


def test_narrow_arithmetic_has_graphs_of_its_own() -> None:
    recorder = Rerun()
    graphs = Graphs(_function, recorder)
    matmul, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.fp32_precision
    try:
        for precision in ("ieee", "tf32"):
            matmul.fp32_precision = precision
            for _ in range(4):
                graphs(torch.randn(3, 2), 1.0, torch.randn(2))
    finally:
        matmul.fp32_precision = before
    assert recorder.recorded == 2


def test_threads_do_not_replay_each_others_inputs() -> None:
    graphs = Graphs(_function, Rerun())
    y = torch.zeros(2)

    def wrong(value: int) -> int:
        x = torch.full((3, 2), float(value))
        return sum(not torch.equal(graphs(x, 2.0, y)[0], x * 2.0) for _ in range(200))

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(wrong, range(3))) == [0, 0, 0]


def test_only_a_few_graphs_are_held() -> None:
    recorder = Rerun()
    graphs = Graphs(_function, recorder)
    for rows in range(1, 30):
        for _ in range(3):
            graphs(torch.randn(rows, 2), 1.0, torch.randn(2))
    assert len(graphs._recorded) <= 8
    assert len(graphs._uses) <= 512


def test_what_cannot_be_recorded_runs_plainly() -> None:
    class Refuses:
        def record(self, call: Callable[[], tuple[Tensor, ...]]):
            raise RuntimeError("operation not permitted when stream is capturing")

    graphs = Graphs(_function, Refuses())
    for _ in range(5):
        x, y = torch.randn(3, 2), torch.randn(2)
        torch.testing.assert_close(graphs(x, 2.0, y)[0], _function(x, 2.0, y)[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_give_the_answers_of_the_plain_engine() -> None:
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
    x = torch.randn(16, 8)
    cpu = mcdrop.MCDropout(net, x, task="regression", engine="loop")
    gpu = mcdrop.MCDropout(net, x, task="regression", engine="batched", device="cuda")
    for seed in range(6):
        y = torch.randn(16, 8)
        torch.testing.assert_close(
            gpu.sample(y, samples=64, seed=seed).cpu(),
            cpu.sample(y, samples=64, seed=seed),
            rtol=1e-4,
            atol=1e-5,
        )
    graphs = Graphs(lambda a: (a * 2,), CudaRecorder())
    for step in range(5):
        assert graphs(torch.full((3,), float(step), device="cuda"))[0].tolist() == [2.0 * step] * 3
