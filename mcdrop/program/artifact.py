"""Artifacts: a program and its manifest as a folder of a few files that hold no code.

`graph.json`, `weights.safetensors` and `model.json`, the last with the SHA-256 of the others; where
the model was calibrated or evaluated also `calibration.json` and `evaluation.json`. Nothing in the
folder is executed, unpickled or evaluated. Saving writes aside and renames.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mcdrop.errors import ArtifactError, InputError
from mcdrop.program.codec import decode, encode, parse
from mcdrop.program.manifest import (
    UNKNOWN,
    Defaults,
    DType,
    Files,
    Manifest,
    SiteSpec,
    first,
    made_with,
)
from mcdrop.program.places import places
from mcdrop.program.program import Program
from mcdrop.program.verify import verify
from mcdrop.tasks import AnyTask

GRAPH, WEIGHTS, MANIFEST = "graph.json", "weights.safetensors", "model.json"
Extra: TypeAlias = Literal["calibration", "evaluation"]
EXTRAS: tuple[Extra, ...] = get_args(Extra)
_MAX_GRAPH, _MAX_MANIFEST, _MAX_EXTRA = 256 << 20, 16 << 20, 64 << 20
_CHUNK = 1 << 20


def site_specs(program: Program) -> tuple[SiteSpec, ...]:
    """The enabled sites as the manifest shows them."""
    return tuple(
        SiteSpec(name=site.name, kind=site.kind, p=site.p, shape=site.shape, place=place)
        for site, place in zip(program.active, places(program.graph, program.active), strict=True)
    )


def describe(
    program: Program,
    task: AnyTask,
    defaults: Defaults,
    *,
    name: str,
    version: int,
    description: str,
    classes: Sequence[str] | None,
    metrics: Mapping[str, float] | None,
    provenance: Mapping[str, str] | None,
) -> Manifest:
    """The manifest of a program that is to be saved.

    Raises:
        InputError: a field does not fit.
    """
    try:
        manifest = Manifest(
            name=name,
            version=version,
            description=description,
            task=task,
            classes=None if classes is None else tuple(classes),
            inputs=program.inputs,
            outputs=program.outputs,
            sites=site_specs(program),
            defaults=defaults,
            metrics=dict(metrics or {}),
            provenance={**made_with(), **(provenance or {})},
            files=UNKNOWN,
        )
    except ValidationError as error:
        raise InputError(f"the artifact's manifest is not valid: {first(error)}") from None
    manifest.check_classes()
    return manifest


def save(
    path: Path,
    program: Program,
    manifest: Manifest,
    *,
    extras: Mapping[Extra, bytes] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an artifact; readers see all of it or nothing.

    Args:
        path: the folder to make; its parents are made, too.
        program: what to save.
        manifest: what to say about it; its file hashes are filled in.
        extras: JSON of the further files, without those that it has none of.
        overwrite: replace a folder that is already there.

    Returns:
        The folder.

    Raises:
        ArtifactError: the folder exists, or the program cannot be stored.
    """
    if path.exists() and not overwrite:
        raise ArtifactError(
            f"{path} exists already; publish under the next version number, or pass overwrite=True"
        )
    if path.exists() and not _is_artifact(path):
        raise ArtifactError(
            f"{path} is not an artifact, so it is not replaced; name a folder of its own, such as "
            "models/NAME/VERSION"
        )
    for name, weight in program.weights.items():
        _check_weight(name, weight)
    graph = encode(program.graph, program.sites)
    aside = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        aside.mkdir(parents=True)
        (aside / GRAPH).write_bytes(graph)
        tensors = {name: w.detach().to("cpu").contiguous() for name, w in program.weights.items()}
        save_file(tensors, aside / WEIGHTS)
        # safetensors writes for the owner alone; a server is often another user
        (aside / WEIGHTS).chmod((aside / GRAPH).stat().st_mode & 0o777)
        for name, content in (extras or {}).items():
            (aside / f"{name}.json").write_bytes(content)
        further = {name: _sha256(aside / f"{name}.json") for name in extras or {}}
        files = Files(graph=_sha256(aside / GRAPH), weights=_sha256(aside / WEIGHTS), **further)
        complete = manifest.model_copy(update={"files": files})
        (aside / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _publish(aside, path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"cannot write {path}: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def _is_artifact(path: Path) -> bool:
    """Whether a folder holds an artifact and nothing else."""
    if not path.is_dir():
        return False
    names = {file.name for file in path.iterdir()}
    needed = {GRAPH, WEIGHTS, MANIFEST}
    return needed <= names <= needed | {f"{name}.json" for name in EXTRAS}


def _check_weight(name: str, weight: Tensor) -> None:
    dtype = str(weight.dtype).removeprefix("torch.")
    if dtype not in get_args(DType):
        raise ArtifactError(f"weight {name!r} is {dtype}; an artifact holds {get_args(DType)}")
    if weight.is_floating_point() and weight.isnan().any():
        raise ArtifactError(f"weight {name!r} has NaN in it; the model is broken")


def _publish(aside: Path, path: Path) -> None:
    for file in aside.iterdir():
        _sync(file)
    _sync(aside)
    if path.exists():
        old = aside.with_name(f"{aside.name}.old")
        path.rename(old)
        aside.rename(path)
        shutil.rmtree(old)
    else:
        aside.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(path: Path, device: torch.device) -> tuple[Program, Manifest]:
    """Read an artifact; no code in it is run.

    Raises:
        ArtifactError: it is missing, damaged, altered, unsafe, or made by a newer mcdrop.
    """
    if not path.is_dir():
        raise ArtifactError(
            f"{path} is not a folder; an artifact holds {MANIFEST}, {GRAPH}, {WEIGHTS}"
        )
    manifest = read_manifest(path)
    data = _file(path, GRAPH, _MAX_GRAPH).read_bytes()
    _compare(hashlib.sha256(data).hexdigest(), manifest.files.graph, path / GRAPH)
    _compare(_sha256(_file(path, WEIGHTS, None)), manifest.files.weights, path / WEIGHTS)
    graph, sites = decode(data)
    weights = _weights(_file(path, WEIGHTS, None), graph.weights)
    program = Program(graph, sites, manifest.inputs, manifest.outputs, weights)
    _check_agreement(program, manifest)
    verify(program, manifest)
    return program.to(device), manifest


def read_manifest(path: Path) -> Manifest:
    """`model.json` of an artifact, checked by itself only.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    document = parse(_file(path, MANIFEST, _MAX_MANIFEST).read_bytes(), MANIFEST)
    try:
        return Manifest.model_validate(document)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise ArtifactError(f"{path / MANIFEST} is nested too deeply") from None
        raise ArtifactError(f"{path / MANIFEST}: {first(error)}") from None


def read_extra(path: Path, manifest: Manifest, name: Extra) -> object:
    """The parsed JSON of a further file; `None` where the artifact has none.

    Raises:
        ArtifactError: it is missing though declared, there though not declared, or damaged.
    """
    declared: str | None = getattr(manifest.files, name)
    if declared is None:
        if (path / f"{name}.json").exists():
            raise ArtifactError(f"{path / name}.json is not declared in {MANIFEST}")
        return None
    data = _file(path, f"{name}.json", _MAX_EXTRA).read_bytes()
    _compare(hashlib.sha256(data).hexdigest(), declared, path / f"{name}.json")
    return parse(data, f"{name}.json")


def _file(folder: Path, name: str, limit: int | None) -> Path:
    """A regular file that lies in the folder, links followed, and is not too large."""
    try:
        path = (folder / name).resolve(strict=True)
        inside = path.is_relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError):
        raise ArtifactError(f"{folder} has no {name}; it is not a whole artifact") from None
    if not inside or not path.is_file():
        raise ArtifactError(f"{folder / name} must be a file inside the artifact's folder")
    size = path.stat().st_size
    if limit is not None and size > limit:
        raise ArtifactError(f"{folder / name} has {size} bytes; at most {limit} are allowed")
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _compare(found: str, expected: str, path: Path) -> None:
    if found != expected:
        raise ArtifactError(
            f"{path} does not have the SHA-256 that {MANIFEST} declares: it is damaged or altered"
        )


def _weights(path: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    try:
        # not mapped: whoever writes into the file later would write into the loaded weights, and
        # whoever shortens it would kill the process
        weights: dict[str, Tensor] = load_file(path, backend="pread")
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ArtifactError(f"{path} is not a sound safetensors file: {error}") from None
    if set(weights) != set(names):
        odd = sorted(set(weights) ^ set(names))[:5]
        raise ArtifactError(f"{path} does not hold the weights that {GRAPH} names: {odd}")
    for name, weight in weights.items():
        _check_weight(name, weight)
    return weights


def _placeless(sites: Sequence[SiteSpec]) -> tuple[SiteSpec, ...]:
    """Sites without their places: older artifacts do not tell, and how they are told may change."""
    return tuple(site.model_copy(update={"place": None}) for site in sites)


def _check_agreement(program: Program, manifest: Manifest) -> None:
    inputs = tuple(spec.name for spec in manifest.inputs)
    outputs = tuple(spec.name for spec in manifest.outputs)
    pairs: Mapping[str, tuple[object, object]] = {
        "inputs": (inputs, program.graph.inputs),
        "outputs": (outputs, tuple(name for name, _ in program.graph.outputs)),
        "sites": (_placeless(manifest.sites), _placeless(site_specs(program))),
    }
    for what, (said, held) in pairs.items():
        if said != held:
            raise ArtifactError(f"{MANIFEST} and {GRAPH} disagree about the model's {what}")
