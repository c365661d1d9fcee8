"""Looking at the models folder again and again, for what is new, changed or gone."""

from __future__ import annotations

import asyncio
import logging

from mcdrop.errors import McdropError
from service.repository.repository import Repository

log = logging.getLogger(__name__)


async def watch(repository: Repository, seconds: float) -> None:
    """Load what is there at the start, then keep in step until cancelled.

    By `stat`, not by notifications of the kernel: those do not come for what another machine
    writes to a network file system, nor in a usable form for the links that Kubernetes swaps.

    Args:
        repository: what to keep in step.
        seconds: between two looks; 0 for the one at the start only.
    """
    await _look(repository)
    repository.registry.started()
    registry = repository.registry
    versions = [version for name in registry.names() for version in registry.versions(name)]
    loaded = sum(version.loaded is not None for version in versions)
    if loaded:
        log.info("ready: %d of %d model versions loaded", loaded, len(versions))
    else:
        log.error("no model could be loaded; GET /v1/models gives the reasons")
    while seconds and repository.accepting:
        await asyncio.sleep(seconds)
        await _look(repository)


async def _look(repository: Repository) -> None:
    try:
        await repository.look()
    except McdropError:  # it is stopping, or has said why it could not
        log.debug("no look at the models folder", exc_info=True)
    except Exception:
        log.exception("a look at the models folder failed; the next one is to come")
