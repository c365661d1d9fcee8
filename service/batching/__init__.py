"""Continuous batching: asks, what they still need, and the steps that serve them."""
