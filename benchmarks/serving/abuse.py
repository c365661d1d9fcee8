"""Requests that must be refused, each with a status that says so."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.serving.wire import encode

REFUSED = frozenset({400, 404, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class Abuse:
    """What a careless or hostile caller sends."""

    what: str
    body: bytes
    path: str = ""
    headers: str = ""


def abuses(width: int) -> list[Abuse]:
    """For a model whose rows are `width` numbers.

    Args:
        width: of a row.
    """
    row = b"[" + b",".join([b"0.5"] * width) + b"]"
    good = b'{"inputs":[' + row + b"]"

    def with_option(text: bytes) -> bytes:
        return good + b"," + text + b"}"

    huge = b'{"inputs":[[' + b",".join([b"1e39"] * width) + b"]]}"
    return [
        Abuse("nothing", b""),
        Abuse("half of an object", b"{"),
        Abuse("no JSON", b"\xff\xfe\x00inputs"),
        Abuse("a list", b"[" + row + b"]"),
        Abuse("NaN", b'{"inputs":[[NaN]]}'),
        Abuse("a number too large for float32", huge),
        Abuse("a number too large for JSON", b'{"inputs":[[1e999]]}'),
        Abuse("deep lists", b'{"inputs":' + b"[" * 900 + b"]" * 900 + b"}"),
        Abuse("ragged rows", b'{"inputs":[' + row + b",[1.0]]}"),
        Abuse("too short a row", b'{"inputs":[[1.0,2.0]]}'),
        Abuse("no rows", b'{"inputs":[]}'),
        Abuse("words for numbers", b'{"inputs":[["a","b"]]}'),
        Abuse("no samples", with_option(b'"samples":0')),
        Abuse("a million samples", with_option(b'"samples":1000000')),
        Abuse("a seed below zero", with_option(b'"seed":-1')),
        Abuse("tolerance of zero", with_option(b'"tolerance":0')),
        Abuse("an unknown field", with_option(b'"sample":3')),
        Abuse("an unknown output", with_option(b'"outputs":["men"]')),
        Abuse("two thousand rows", b'{"inputs":[' + b",".join([row] * 2000) + b"]}"),
        Abuse("an unknown model", good + b"}", path="/v1/models/nobody/predict"),
        Abuse("an unknown version", good + b"}", path="/v1/models/small/versions/99/predict"),
        Abuse("a body said to be gzip", good + b"}", headers="content-encoding: gzip\r\n"),
    ]


def encoded(found: list[Abuse], model: str) -> tuple[bytes, ...]:
    """The requests of a stream."""
    path = f"/v1/models/{model}/predict"
    return tuple(encode(one.path or path, one.body, one.headers) for one in found)
