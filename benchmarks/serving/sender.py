"""`python -m benchmarks.serving.sender`: pickled streams on stdin, outcomes on stdout."""

from __future__ import annotations

import gc
import pickle
import resource
import sys

import uvloop

from benchmarks.serving.load import send


def main() -> None:
    """Send what is asked for."""
    streams = pickle.load(sys.stdin.buffer)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    gc.freeze()
    gc.set_threshold(100_000)  # outcomes are many, and in no cycle
    result = uvloop.run(send(streams))
    sys.stdout.buffer.write(pickle.dumps(result))


if __name__ == "__main__":
    main()
