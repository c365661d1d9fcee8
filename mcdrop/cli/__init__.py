"""The command line: `mcdrop --help`."""

from mcdrop.cli.app import main

__all__ = ["main"]
