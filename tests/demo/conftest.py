"""The demo models, trained once a session, for real."""

import time
from pathlib import Path

import pytest

from mcdrop.demo.train import DEMOS, train


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    begun = time.monotonic()
    for name in DEMOS:
        train(name, folder)
    (folder / "seconds").write_text(str(time.monotonic() - begun))
    return folder
