"""Every error that mcdrop raises on purpose.

McdropError
├── CaptureError             the module could not be turned into a program
│   └── NoStochasticSiteError    nothing random was found in it
├── ArtifactError            a folder is not a sound artifact, or cannot become one
└── InputError               what the caller passed does not fit
"""

from __future__ import annotations


class McdropError(Exception):
    """Root of every error raised by mcdrop."""


class CaptureError(McdropError):
    """The module could not be captured; the message names the cause and what to try."""


class NoStochasticSiteError(CaptureError):
    """Nothing random was found, so Monte Carlo samples would all be the same."""


class ArtifactError(McdropError):
    """An artifact is missing, damaged, altered or unsafe, or a program cannot be saved as one."""


class InputError(McdropError, ValueError):
    """An argument has the wrong shape, type or value; the message says what was expected."""
