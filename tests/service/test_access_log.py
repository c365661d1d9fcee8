"""What the access log leaves out."""

import logging

import pytest

from service.server import _NoProbes


@pytest.mark.parametrize(
    ("path", "status", "kept"),
    [
        ("/health/ready", 200, False),
        ("/v2/health/live", 200, False),
        ("/health/ready", 503, True),
        ("/v1/models", 200, True),
    ],
)
def test_successful_probes_are_left_out(path: str, status: int, kept: bool) -> None:
    args = ("127.0.0.1:1", "GET", path, "1.1", status)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, "%s %s %s %s %d", args, None)
    assert _NoProbes().filter(record) is kept


def test_other_records_are_kept() -> None:
    record = logging.LogRecord("uvicorn.error", logging.INFO, "", 0, "started", None, None)
    assert _NoProbes().filter(record)
