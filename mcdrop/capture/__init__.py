"""Capture: from a PyTorch module to a program with named sites."""

from mcdrop.capture.audit import Audit, Finding, audit
from mcdrop.capture.capture import capture

__all__ = ["Audit", "Finding", "audit", "capture"]
