"""What a caller would rather have: the weights in `Accept` and `Accept-Encoding` headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_WEIGHT = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")  # RFC 9110, section 12.4.2


def weigh(said: Iterable[str]) -> dict[str, float]:
    """What the lines of a header name, in lower case, each with its weight from 0 to 1.

    Example:
        >>> weigh(["gzip, deflate;q=0.5"])
        {'gzip': 1.0, 'deflate': 0.5}
    """
    weights: dict[str, float] = {}
    for item in ",".join(said).lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name:
            weights[name] = _weight(parameters)
    return weights


def choose_media_type(accepted: Iterable[str], offered: Sequence[str]) -> str | None:
    """The offered media type that `Accept` headers like best; None if they take none of them.

    Of equals the one that is named more closely, then the first.

    Example:
        >>> offered = ["application/json", "application/x-npy"]
        >>> choose_media_type(["application/x-npy, */*;q=0.1"], offered)
        'application/x-npy'
        >>> choose_media_type([], offered)
        'application/json'
    """
    weights = weigh(accepted) or {"*/*": 1.0}

    def rank(media_type: str) -> tuple[float, int]:
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        for closeness, name in zip((3, 2, 1), ranges, strict=True):
            if name in weights:
                return weights[name], closeness
        return 0.0, 0

    best = max(offered, key=rank)
    return best if rank(best)[0] > 0 else None


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = (part.strip() for part in parameter.partition("="))
        if name == "q":
            return float(value) if _WEIGHT.fullmatch(value) else 0.0
    return 1.0
