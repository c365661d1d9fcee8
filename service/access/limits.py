"""How often a caller may ask: token buckets, as many as there is room for."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second on average, of which `burst` may come at once."""

    per_second: float
    burst: int

    @classmethod
    def of(cls, per_second: float, burst: int | None) -> Rate:
        """A rate whose burst is what comes in a second, unless it is given."""
        return cls(per_second, burst or max(1, math.ceil(min(per_second, 1e9))))


@dataclass(slots=True)
class Bucket:
    """A token bucket: filled at a rate up to the burst, a token for each request.

    In any time t it grants at most rate · t + burst requests.
    """

    tokens: float
    filled_at: float

    def take(self, rate: Rate, now: float) -> float:
        """Take a token if there is one.

        Args:
            rate: which may be another than last time.
            now: seconds, of a clock that never goes back.

        Returns:
            0 if a token was taken, else the seconds until there will be one.
        """
        filled = self.tokens + (now - self.filled_at) * rate.per_second
        self.tokens = min(float(rate.burst), filled)
        self.filled_at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / rate.per_second


class Limits:
    """The buckets of all callers; the one that was silent longest makes room for a new one.

    That loses nothing as a rule: a bucket that nobody took from for burst / rate seconds is full,
    as a new one is.
    """

    def __init__(
        self, most: int = MOST_BUCKETS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: str, rate: Rate) -> float:
        """Count a request of this caller.

        Returns:
            0 if it may pass, else the seconds to wait; one that may not pass costs nothing.
        """
        if math.isinf(rate.per_second):
            return 0.0
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = Bucket(float(rate.burst), now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        return bucket.take(rate, now)


def neighbourhood(address: str) -> str:
    """What of a caller's address is limited: IPv4 as it is, of IPv6 the /64 that a caller holds.

    Example:
        >>> neighbourhood("2001:db8::1"), neighbourhood("::ffff:192.0.2.1")
        ('2001:db8::/64', '192.0.2.1')
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
