"""Who may do what, and how often; knows nothing of HTTP, so that every protocol asks the same."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from pathlib import Path

from service.access.key_file import KeyFile
from service.access.keys import Key, KeyScope, find_key
from service.access.limits import Limits, Rate, neighbourhood
from service.errors import ForbiddenError, RateLimitedError, UnauthorizedError

ANYONE = Key("anyone", KeyScope.READ, b"")  # where there are no keys


class Access:
    """The keys and the rates of a server.

    Args:
        keys: their file; without one everybody may predict and nobody may manage.
        rate: of each caller whose key has none of its own; `None` for no limit.
    """

    def __init__(self, keys: Path | None = None, *, rate: Rate | None = None) -> None:
        self.file = KeyFile(keys) if keys is not None else None
        self._rate = rate
        self._limits = Limits()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the keys, and keep up with their file meanwhile.

        Raises:
            SettingsError: the file is not sound.
        """
        if self.file is None:
            yield
            return
        await asyncio.to_thread(self.file.load)
        watching = asyncio.create_task(self.file.watch())
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    def check(self, presented: str | None, scope: KeyScope) -> Key:
        """Let a caller in.

        Args:
            presented: the key that came with the request.
            scope: what the request needs.

        Returns:
            The caller's key; `ANYONE` on a server without keys.

        Raises:
            UnauthorizedError: there is no key, or it is not known.
            ForbiddenError: the key's scope is not enough, or management is off.
        """
        if self.file is None:
            if ANYONE.may(scope):
                return ANYONE
            raise ForbiddenError(
                "management is off: name a file of keys in MCDROP_API_KEYS, and make an admin key "
                "with `mcdrop key NAME --scope admin`"
            )
        if presented is None:
            raise UnauthorizedError(
                "this server asks for an API key: send it as `Authorization: Bearer KEY` or "
                "`X-API-Key: KEY`"
            )
        key = find_key(self.file.keys, presented)
        if key is None:
            raise UnauthorizedError("there is no such API key; ask the operator for one")
        if not key.may(scope):
            raise ForbiddenError(
                f"this needs a key of scope {scope}; the scope of key {key.name!r} is {key.scope}"
            )
        return key

    def spend(self, key: Key, address: str) -> None:
        """Count a prediction of this caller.

        Args:
            key: what `check` returned.
            address: where the request came from; counts where there are no keys.

        Raises:
            RateLimitedError: there were too many lately.
        """
        rate = key.rate or self._rate
        if rate is None:
            return
        if key is ANYONE:
            caller, whose = f"address {neighbourhood(address)}", "an address"
        else:
            caller, whose = f"key {key.name}", f"key {key.name!r}"
        wait = self._limits.take(caller, rate)
        if wait > 0:
            seconds = math.ceil(wait)
            raise RateLimitedError(
                f"{whose} may predict {rate.per_second:g} times a second, {rate.burst} at once; "
                f"try again in {seconds} s",
                seconds,
            )
