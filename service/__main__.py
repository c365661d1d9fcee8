"""`python -m service`: serve the models that the environment names."""

from __future__ import annotations

import argparse
import sys

from mcdrop.errors import McdropError
from service.server import serve
from service.settings import PREFIX, Settings


def main() -> int:
    """Serve until told to stop; 0 for a clean stop, 1 with one line on stderr for a bad start."""
    names = ", ".join(PREFIX + name.upper() for name in Settings.model_fields)
    argparse.ArgumentParser(
        prog="python -m service",
        description="Serve mcdrop artifacts over HTTP. Everything is set by the environment: "
        f"{names}. `mcdrop serve` takes options as well.",
    ).parse_args()
    try:
        serve(Settings())
    except McdropError as error:
        print(f"mcdrop: {error}", file=sys.stderr)  # noqa: T201 - the one line the operator reads
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
