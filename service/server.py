"""Running the application: the socket, the signals, the log."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import logging.config
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

import uvicorn

from service.access.keys import read_keys
from service.app import create_app
from service.batching.devices import resolve_devices
from service.errors import StartError
from service.grpc.endpoint import Endpoint, require_grpc
from service.openmp import let_threads_sleep
from service.repository.folders import scan
from service.settings import Settings
from service.telemetry.logs import log_config
from service.wire.connection import Connection

log = logging.getLogger(__name__)

_ELSEWHERE = "set MCDROP_HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0"
_REMEDIES = {
    errno.EADDRINUSE: "stop the other program, or set {port}",
    errno.EADDRNOTAVAIL: _ELSEWHERE,
    errno.EACCES: "set {port} to 1024 or above",
}


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; then finish the requests that have begun, and return.

    Raises:
        StartError: the models folder holds no model, the device is not there, or the address is
            not to be had; its one line says which, and what to do.
        SettingsError: the keys file is not sound.
    """
    logging.config.dictConfig(log_config(settings.log_level, settings.log_format))
    scan(settings.models)
    devices = resolve_devices(settings.device)
    if settings.api_keys is not None:
        read_keys(settings.api_keys)  # likewise
    require_grpc(settings)
    let_threads_sleep(devices)
    if settings.grpc_port:  # the application opens it: too late to be told in one line
        _listen(settings.host, settings.grpc_port, "MCDROP_GRPC_PORT").close()
    with _listen(settings.host, settings.port) as listener:
        server = _Server(
            uvicorn.Config(
                create_app(settings),
                log_config=None,
                access_log=False,  # the application writes its own
                http=Connection,
                server_header=False,
                timeout_graceful_shutdown=settings.drain_seconds,
                proxy_headers=settings.trusted_proxies is not None,
                forwarded_allow_ips=settings.trusted_proxies,
            )
        )
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("listening on http://%s:%d (API documentation at /docs)", shown, port)
        if settings.api_keys is None and not ipaddress.ip_address(host).is_loopback:
            log.warning(
                "whoever reaches %s may predict: name a file of API keys in MCDROP_API_KEYS, "
                "and make a key with `mcdrop key NAME`",
                shown,
            )
        with _stop_on_signals(server):
            server.run(sockets=[listener])
    log.info("stopped")


def leave() -> None:
    """End the process after `serve`, with exit code 0, where a thread is left behind.

    A stop waits for no model that is still being read. Python would end the thread that reads it
    in the midst of torch's C++, and that aborts the process.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)


class _Server(uvicorn.Server):
    """Lets gRPC finish what has begun while HTTP does, so that both have the same time."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop both, then the application."""
        grpc: Endpoint | None = self.config.app.state.grpc  # type: ignore[union-attr]
        stopping = asyncio.ensure_future(grpc.stop()) if grpc is not None else None
        await super().shutdown(sockets)
        if stopping is not None and not self.force_exit:
            await stopping


def _listen(host: str, port: int, setting: str = "MCDROP_PORT") -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):  # UnicodeError: it could not be a host's name
        raise StartError(
            f"cannot listen on {host}:{port}: there is no such host; {_ELSEWHERE}"
        ) from None
    try:
        return socket.create_server((address[0], port), family=family, backlog=2048)
    except OSError as error:
        number = error.errno or 0
        remedy = _REMEDIES.get(number, "set {port} or MCDROP_HOST").format(port=setting)
        # strerror would repeat the address
        raise StartError(
            f"cannot listen on {host}:{port}: {os.strerror(number)}; {remedy}"
        ) from None


@contextlib.contextmanager
def _stop_on_signals(server: uvicorn.Server) -> Iterator[None]:
    """Take a signal for an orderly stop, with exit code 0.

    uvicorn has its own handlers while it runs, and raises the signal again when it has stopped;
    that second one ends here too. So does a signal before uvicorn's handlers are in place.
    """

    def stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        server.should_exit = True

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
