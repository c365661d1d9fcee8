"""Measured promises: each figure names the command that measures it."""
