"""Keeping torch's own words about a module that it cannot trace off stderr: ours is one line."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import typer

LOGGERS = ("torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")


@contextmanager
def quiet(ctx: typer.Context) -> Iterator[None]:
    """Capture a model without torch's logs, and without the graph that it prints when it fails.

    What else is written to stderr appears when the capture ends well. With `--debug` all of it
    appears as it comes.
    """
    if ctx.find_root().params["debug"]:
        yield
        return
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True  # not its level: torch sets levels itself, whenever it is imported
    written = io.StringIO()
    try:
        with redirect_stderr(written):
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
    sys.stderr.write(written.getvalue())
