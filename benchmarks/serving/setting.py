"""How LitServe is set up: what its users can choose, and what was found best here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to serve Monte Carlo dropout with LitServe.

    Attributes:
        way: a loop over samples, or rows repeated.
        rows_at_once: most rows in a pass where rows are repeated.
        workers: processes that predict.
        threads: of torch, in each of them.
        batch_timeout: seconds that a batch waits to be full.
        api_servers: processes that speak HTTP.
        fast_queue: ZeroMQ in place of queues of a manager process.
        max_batch_size: most requests in a batch.
    """

    way: Literal["loop", "repeat"] = "repeat"
    rows_at_once: int = 512
    workers: int = 1
    threads: int = 2
    batch_timeout: float = 0.01
    api_servers: int = 1
    fast_queue: bool = False
    max_batch_size: int = 32

    def to_json(self) -> str:
        """For the command line of `litserve_app`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Setting:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        way = "loop" if self.way == "loop" else f"rows repeated, {self.rows_at_once:,} at once"
        queue = ", fast queue" if self.fast_queue else ""
        return (
            f"{way}; {self.workers} × {self.threads} threads, {self.api_servers} API, "
            f"batches of {self.max_batch_size} or after {self.batch_timeout * 1000:g} ms{queue}"
        )
