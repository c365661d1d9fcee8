"""Names of requests and of predictions, which nobody can guess."""

from __future__ import annotations

import os

_BYTES = 16  # of a name
_AT_A_TIME = 256

_names: list[str] = []


def new_id() -> str:
    """32 hexadecimal digits, drawn at random; from any thread.

    Many are drawn at a time: who asks the system lets go of the interpreter, and gets it back from
    a thread that computes only after milliseconds.
    """
    while True:
        try:
            return _names.pop()
        except IndexError:
            drawn = os.urandom(_BYTES * _AT_A_TIME).hex()
            _names.extend(drawn[i : i + 2 * _BYTES] for i in range(0, len(drawn), 2 * _BYTES))
