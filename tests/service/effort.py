"""How much the fuzzers try: ten times as much where MCDROP_FUZZ is 10, and each time anew."""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("MCDROP_FUZZ", "1"))
SEED = 1 if TIMES == 1 else int.from_bytes(os.urandom(4), "little")


def examples(number):
    """Settings of a Hypothesis test over a server: so many examples, by default always the same."""
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
