import asyncio
import contextlib
import logging
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

import mcdrop
from service import Settings
from service.errors import UnloadableError
from service.fields import field_specs
from service.loaded import Loaded
from service.repository.warmup import warm
from service.scheduler import Scheduler


class FromOne(nn.Module):
    """Whole numbers from 1 on: zeros are not what it takes."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, ids):
        return self.head(self.embedding(ids - 1).mean(1))


class Wide(nn.Module):
    """A row of it takes 192 MiB on its way."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))

    def forward(self, x):
        return self.head(x).repeat(1, 48 << 20).amax(1, keepdim=True)


def warmed(folder, **settings):
    predictor = mcdrop.load(folder)
    manifest = predictor.manifest
    loaded = Loaded(
        manifest.name,
        manifest.version,
        (predictor,),
        (predictor.residency(),),
        manifest,
        field_specs(manifest),
    )

    async def main():
        scheduler = Scheduler([torch.device("cpu")], capacity=1)
        try:
            await warm(loaded, scheduler, Settings(**settings))
        finally:
            await scheduler.close()

    asyncio.run(main())
    return predictor


def planned(predictor):
    return sorted(rows for _, rows, _ in predictor._opened.source._plans)


def test_steps_of_several_sizes_are_planned_before_the_first_request(repository):
    folder = repository / "shapes" / "1"
    assert planned(warmed(folder)) == [1, 4, 16, 64]
    assert planned(warmed(folder, warmup_rows=5)) == [1, 4, 8]  # plans are for powers of two
    assert planned(warmed(folder, step_rows=2)) == [1, 2]
    assert planned(warmed(folder, warmup_rows=0)) == []


def test_several_inputs_and_free_axes_and_narrow_types(repository):
    for name in ("pair", "tags", "brain"):
        assert warmed(repository / name / "1", warmup_rows=2).plan is not None


def test_a_model_that_takes_no_zeros_is_served_without(tmp_path, caplog):
    ids = torch.ones(2, 3, dtype=torch.int64)
    mc = mcdrop.MCDropout(FromOne(), ids, task="classification")
    folder = mc.save(tmp_path / "m" / "1", name="m")
    with caplog.at_level(logging.WARNING, "service.repository.warmup"):
        predictor = warmed(folder)
    assert "model m/1 is not warm for 1 rows" in caplog.text
    assert predictor.predict(ids, samples=16).mean.shape == (2, 2)


@pytest.mark.slow
def test_what_finds_no_memory_for_one_row_is_not_served(tmp_path):
    mc = mcdrop.MCDropout(Wide(), torch.randn(2, 4), task="regression", engine="loop")
    folder = mc.save(tmp_path / "m" / "1", name="m", samples=1)
    del mc
    with little_memory(96 << 20), pytest.raises(UnloadableError, match="no memory left"):
        warmed(folder)
    assert planned(warmed(folder, warmup_rows=1)) == [1]


@contextlib.contextmanager
def little_memory(more):
    """Let this process have only so many bytes more, as a full machine would."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
