"""`graph.json`: a graph and its sites as JSON, and back, with every entry checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

import torch

from mcdrop.errors import ArtifactError
from mcdrop.program.graph import Arg, Graph, Node, Ref, Token
from mcdrop.program.ops import allowed
from mcdrop.program.site import BatchLayout, Kind, Law, Site

FORMAT = 1
MAX_NODES = 200_000
_DEPTH = 8  # nesting of lists in an argument
_TORCH_KINDS: dict[str, type] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}
T = TypeVar("T")


def encode(graph: Graph, sites: tuple[Site, ...]) -> bytes:
    """A graph and its sites as JSON.

    Raises:
        ArtifactError: the graph uses an operation that artifacts may not hold.
    """
    refused = sorted({node.op for node in graph.nodes if not allowed(node.op)})
    if refused:
        raise ArtifactError(
            f"the program uses {', '.join(refused)}, which artifacts may not hold (only "
            f"functional ATen "
            "operations that read nothing but their arguments); it can be used in this process only"
        )
    document = {
        "format": FORMAT,
        "inputs": list(graph.inputs),
        "weights": list(graph.weights),
        "nodes": [
            {
                "name": node.name,
                "op": node.op,
                "args": [_encode(arg) for arg in node.args],
                "kwargs": {key: _encode(arg) for key, arg in node.kwargs},
                "path": node.path,
            }
            for node in graph.nodes
        ],
        "outputs": [list(pair) for pair in graph.outputs],
        "sites": [_encode_site(site) for site in sites],
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def _encode(arg: Arg) -> Any:
    if isinstance(arg, Ref):
        return {"ref": arg.name}
    if isinstance(arg, Token):
        return {"token": arg.value}
    if isinstance(arg, tuple):
        return [_encode(item) for item in arg]
    if isinstance(arg, float) and not math.isfinite(arg):
        return {"float": repr(arg)}
    for kind, type_ in _TORCH_KINDS.items():
        if isinstance(arg, type_):
            return {kind: str(arg).removeprefix("torch.")}
    return arg


def _encode_site(site: Site) -> dict[str, Any]:
    layout = site.layout
    return {
        "name": site.name,
        "kind": site.kind,
        "p": site.p,
        "shape": list(site.shape),
        "law": {"kind": site.law.kind, "p": site.law.p, "scale": site.law.scale},
        "node": site.node,
        "index": site.index,
        "layer": site.layer,
        "layout": layout and {"dim": layout.dim, "outer": layout.outer, "folded": layout.folded},
        "enabled": site.enabled,
        "threshold": site.threshold,
    }


def parse(data: bytes, what: str) -> Any:
    """JSON without NaN, infinities or repeated keys.

    Raises:
        ArtifactError: it is not that.
    """
    try:
        return json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what} is not valid JSON: {error}") from None


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key is repeated")
    return keys


def decode(data: bytes) -> tuple[Graph, tuple[Site, ...]]:
    """The graph and sites of a `graph.json`.

    Raises:
        ArtifactError: it is damaged, unsound, or asks for something that is not allowed.
    """
    document = _mapping(parse(data, "graph.json"), "graph.json")
    if document.get("format") != FORMAT:
        raise ArtifactError(
            f"graph.json has format {document.get('format')!r}; this version of mcdrop reads "
            f"{FORMAT}"
        )
    nodes = _get(document, "nodes", list)
    if len(nodes) > MAX_NODES:
        raise ArtifactError(f"graph.json has {len(nodes)} nodes; at most {MAX_NODES} are allowed")
    graph = Graph(
        inputs=tuple(_texts(_get(document, "inputs", list))),
        weights=tuple(_texts(_get(document, "weights", list))),
        nodes=tuple(_node(_mapping(node, "a node")) for node in nodes),
        outputs=tuple(_pair(pair) for pair in _get(document, "outputs", list)),
    )
    problem = graph.problem()
    if problem is not None:
        raise ArtifactError(f"graph.json is unsound: {problem}")
    sites = tuple(_site(_mapping(s, "a site"), graph) for s in _get(document, "sites", list))
    if len({site.index for site in sites}) != len(sites):
        raise ArtifactError("graph.json is unsound: two sites have the same index")
    return graph, sites


def _node(entry: dict[str, Any]) -> Node:
    op = _get(entry, "op", str)
    if not allowed(op):
        raise ArtifactError(f"operation {op!r} is not one that artifacts may hold")
    return Node(
        name=_get(entry, "name", str),
        op=op,
        args=tuple(_decode(arg, _DEPTH) for arg in _get(entry, "args", list)),
        kwargs=tuple((k, _decode(v, _DEPTH)) for k, v in _get(entry, "kwargs", dict).items()),
        path=_get(entry, "path", str),
    )


def _decode(value: Any, depth: int) -> Arg:
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int):
        if abs(value) >= 2**63:
            raise ArtifactError(f"graph.json has the number {value:.3g}, which no size can be")
        return value
    if isinstance(value, list) and depth > 0:
        return tuple(_decode(item, depth - 1) for item in value)
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        decoder = _DECODERS.get(kind)
        if decoder is not None and isinstance(content, str):
            return decoder(content)
    raise ArtifactError(f"graph.json has an argument that is not understood: {str(value)[:80]!r}")


def _torch_constant(kind: str) -> Callable[[str], Arg]:
    def decode_constant(name: str) -> Arg:
        value = getattr(torch, name, None) if name.isidentifier() else None
        if not isinstance(value, _TORCH_KINDS[kind]):
            raise ArtifactError(f"graph.json names {name!r}, which is not a torch {kind}")
        return cast("Arg", value)

    return decode_constant


def _special_float(text: str) -> float:
    if text not in ("inf", "-inf", "nan"):
        raise ArtifactError(
            f"graph.json has the special number {text!r}; expected inf, -inf or nan"
        )
    return float(text)


def _token(text: str) -> Token:
    if text != Token.DEVICE.value:
        raise ArtifactError(f"graph.json has the token {text!r}; expected 'device'")
    return Token.DEVICE


_DECODERS: dict[str, Callable[[str], Arg]] = {
    "ref": Ref,
    "token": _token,
    "float": _special_float,
    **{kind: _torch_constant(kind) for kind in _TORCH_KINDS},
}


def _site(entry: dict[str, Any], graph: Graph) -> Site:
    law, layout = _get(entry, "law", dict), entry.get("layout")
    kind, node = _get(entry, "kind", str), _get(entry, "node", str)
    shape = _get(entry, "shape", list)
    threshold = entry.get("threshold")
    sound = (
        kind in get_args(Kind)
        and law.get("kind") in ("bernoulli", "uniform", "normal")
        and node in graph
        and (threshold is None or (isinstance(threshold, str) and threshold in graph))
        and all(size is None or (isinstance(size, int) and 0 <= size < 2**31) for size in shape)
        and (entry.get("p") is None or _is_rate(entry["p"]))
    )
    if not sound:
        raise ArtifactError(f"graph.json has a site that is not understood: {str(entry)[:80]!r}")
    return Site(
        name=_get(entry, "name", str),
        kind=cast("Kind", kind),
        p=entry.get("p"),
        shape=tuple(shape),
        law=Law(law["kind"], _rate(law.get("p")), _finite(law.get("scale"))),
        node=node,
        index=_natural(entry.get("index")),
        layer=_natural(entry.get("layer")),
        layout=None if layout is None else _layout(_mapping(layout, "a layout")),
        enabled=_get(entry, "enabled", bool),
        threshold=threshold,
    )


def _layout(entry: dict[str, Any]) -> BatchLayout:
    outer = entry.get("outer")
    return BatchLayout(
        _natural(entry.get("dim")),
        None if outer is None else max(1, _natural(outer)),
        _get(entry, "folded", bool),
    )


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def _rate(value: Any) -> float:
    if not _is_rate(value):
        raise ArtifactError(f"graph.json has the rate {value!r}; expected a number from 0 to 1")
    return float(value)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ArtifactError(f"graph.json has the scale {value!r}; expected a finite number")
    return float(value)


def _natural(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ArtifactError(f"graph.json has {value!r} where a natural number is expected")
    return value


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ArtifactError(f"{what} must be a JSON object; got {type(value).__name__}")
    return value


def _get(entry: dict[str, Any], key: str, kind: type[T]) -> T:
    value = entry.get(key)
    if not isinstance(value, kind):
        raise ArtifactError(
            f"graph.json: {key!r} must be a {kind.__name__}; got {type(value).__name__}"
        )
    return value


def _texts(values: list[Any]) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise ArtifactError("graph.json: names must be strings")
    return values


def _pair(value: Any) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(v, str) for v in value):
        raise ArtifactError("graph.json: an output must be a pair of names")
    return value[0], value[1]
