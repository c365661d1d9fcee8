"""Is a program from a file sound? Everything that can be known without running it on data.

The lowered graphs are executed on the meta device with two numbers of rows: every call must be
well-formed, every size sane, every site applied, and nothing random left over.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mcdrop import tasks
from mcdrop.errors import ArtifactError, InputError
from mcdrop.program.manifest import Manifest
from mcdrop.program.measure import Measurement
from mcdrop.program.program import Program
from mcdrop.program.randomness import find
from mcdrop.program.schema import dtype_of
from mcdrop.program.site import Site

_MAX_ROW_BYTES = 64 << 30
_ROWS = (2, 3)


def verify(program: Program, manifest: Manifest) -> None:
    """Check a loaded program and that its manifest fits it.

    Raises:
        ArtifactError: something is unsound.
    """
    try:
        names = tasks.entries(manifest.task, [spec.name for spec in program.outputs])
        specs = {spec.name: spec for spec in program.outputs}
        tasks.check_outputs(manifest.task, [specs[name].shape for name in names])
        manifest.check_classes()
    except InputError as error:
        raise ArtifactError(f"the manifest does not fit its model: {error}") from None
    _check_table(program)
    runs = {rows: _run(program, rows) for rows in _ROWS}
    for rows, (off, on) in runs.items():
        for run in (off, on):
            _check_outputs(program, run, rows)
    _check_sites(program, {rows: on for rows, (_, on) in runs.items()})


def _run(program: Program, rows: int) -> tuple[Measurement, Measurement]:
    """Both lowered graphs on the meta device."""
    sizes = {spec.name: spec.smallest() for spec in program.inputs}
    try:
        inputs = program.meta_inputs(rows, sizes)
        off = program.measure(program.deterministic, inputs)
        on = program.measure(program.stochastic, inputs)
    # a hostile graph can make torch and the lowering raise anything
    except Exception as error:  # noqa: BLE001
        raise ArtifactError(
            "the graph does not run on the declared inputs: "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from None
    held = sum(tensor.nbytes for tensor in inputs.values())
    if max(off.peak, on.peak) + held > _MAX_ROW_BYTES * rows:
        raise ArtifactError(f"the graph would take over {_MAX_ROW_BYTES >> 30} GiB for one row")
    return off, on


def _check_outputs(program: Program, run: Measurement, rows: int) -> None:
    for spec in program.outputs:
        value = run.outputs[spec.name]
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        typed = isinstance(value, Tensor) and dtype_of(spec.dtype) == value.dtype
        fits = (
            typed
            and len(shape) == len(spec.shape) > 0
            and shape[0] == rows
            and all(size in (None, got) for size, got in zip(spec.shape, shape, strict=True))
        )
        if not fits:
            raise ArtifactError(
                f"output {spec.name!r} is {value.dtype} {list(shape)} for {rows} rows; declared is "
                f"{spec.dtype} {list(spec.shape)}"
            )


def _check_sites(program: Program, runs: Mapping[int, Measurement]) -> None:
    for site in program.active:
        for rows, run in runs.items():
            noise = run.noise.get(site.mask)
            if noise is None:
                raise ArtifactError(f"site {site.name!r} is not applied anywhere in the graph")
            if not _fits(site, noise, rows):
                raise ArtifactError(
                    f"site {site.name!r} declares masks of shape {list(site.shape)}; for {rows} "
                    f"rows its noise has shape {list(noise)}"
                )


def _fits(site: Site, noise: tuple[int, ...], rows: int) -> bool:
    shape = list(noise)
    if site.layout is not None:
        dim, outer = site.layout.dim, site.layout.outer or 1
        if dim >= len(shape) or shape[dim] % rows:
            return False
        shape[dim] //= rows
        if shape[dim] % outer or (shape[dim] > 1 and not site.layout.folded):
            return False
    return len(shape) == len(site.shape) and all(
        declared in (None, got) for declared, got in zip(site.shape, shape, strict=True)
    )


def _check_table(program: Program) -> None:
    """Every random node has its site, and every site says of its node what the graph says."""
    try:
        found = find(program.graph)
    # arguments of a hostile node can be anything
    except Exception as error:  # noqa: BLE001
        raise ArtifactError(f"the graph's random nodes are not understood: {error}") from None
    sound = len(found) == len(program.sites) and all(
        one.describes(site) for one, site in zip(found, program.sites, strict=True)
    )
    if not sound:
        raise ArtifactError("the table of sites does not agree with the random nodes of the graph")
