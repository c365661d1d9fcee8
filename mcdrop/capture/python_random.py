"""Python's and NumPy's global generators: left as they were, and watched."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

# Guards that overlapped would each put back what the other had moved.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def preserved() -> Iterator[Callable[[], bool]]:
    """Put both generators back at the end if the block moved them.

    They belong to the process: what another thread draws in the meantime is put back with them, so
    the block should be the forward pass and no more.

    Yields:
        A function that tells whether they have been moved so far.
    """
    with _ONE_AT_A_TIME:
        # NumPy's legacy generator is one of those that a model may draw from
        before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002

        def moved() -> bool:
            now = np.random.get_state()  # noqa: NPY002
            same = all(np.array_equal(a, b) for a, b in zip(numpy_before, now, strict=True))
            return random.getstate() != before or not same

        try:
            yield moved
        finally:
            if moved():
                random.setstate(before)
                np.random.set_state(numpy_before)  # noqa: NPY002
