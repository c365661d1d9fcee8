"""Capture: from a PyTorch module to a program with named sites."""

from mcdrop.capture.capture import capture

__all__ = ["capture"]
