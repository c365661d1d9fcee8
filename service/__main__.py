"""`python -m service`: serve what the environment and a file say."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mcdrop.errors import McdropError
from service.server import leave, serve
from service.settings import Settings, variables


def main() -> int:
    """Serve until told to stop; 0 for a clean stop, 1 with one line on stderr for a bad start."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve mcdrop artifacts over HTTP. Everything is set by the environment: "
        f"{', '.join(variables())}. `mcdrop serve` takes options as well.",
    )
    parser.add_argument("--config", type=Path, help="settings file, TOML; the environment wins")
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings in force, do not start"
    )
    asked = parser.parse_args()
    try:
        settings = Settings() if asked.config is None else Settings(config=asked.config)
        if asked.print_config:
            sys.stdout.write(settings.to_toml())
        else:
            serve(settings)
            leave()
    except McdropError as error:
        print(f"mcdrop: {error}", file=sys.stderr)  # noqa: T201 - the one line the operator reads
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
