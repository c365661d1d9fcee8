"""`mcdrop serve`: start the server. With `mcdrop key` all of mcdrop that knows `service`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless MCDROP_HOST says.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 8000 unless MCDROP_PORT says, 0 for any."),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for gRPC; none unless MCDROP_GRPC_PORT says."),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of artifacts, NAME/VERSION; models unless MCDROP_MODELS says."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda or cuda:N; auto unless MCDROP_DEVICE says."),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(help="File of API keys, see mcdrop key; none unless MCDROP_API_KEYS says."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file, TOML; none unless MCDROP_CONFIG says."),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the settings in force as TOML; do not start."),
    ] = False,
) -> None:
    r"""Serve a folder of artifacts over HTTP until told to stop.

    Options win over the environment, which wins over the settings file. Both
    hold the server's other settings, too: --print-config lists them all, with
    what each is for. Stops cleanly on Ctrl-C and SIGTERM.

    Examples:
      mcdrop serve
      mcdrop serve --models /srv/models --host 0.0.0.0 --api-keys keys.toml
      mcdrop serve --print-config > server.toml; mcdrop serve --config server.toml
      mcdrop demo --request digits | curl -s --json @- \
          localhost:8000/v1/models/digits/predict
    """
    from mcdrop.errors import McdropError

    try:
        from service import Settings
        from service import serve as run
        from service.server import leave
    except ModuleNotFoundError as error:
        raise McdropError(
            f"the server needs {error.name}, which is not installed: pip install 'mcdrop[service]'"
        ) from error
    options = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "models": models,
        "device": device,
        "api_keys": api_keys,
        "config": config,
    }
    settings = Settings(**{name: value for name, value in options.items() if value is not None})
    if print_config:
        typer.echo(settings.to_toml(), nl=False)
    else:
        run(settings)
        leave()
