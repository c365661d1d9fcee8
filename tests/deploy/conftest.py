"""The real server of the service's tests, to hold against it what names its metrics."""

from tests.service.conftest import client, live, repository

__all__ = ["client", "live", "repository"]
