"""What is served: models, versions, schemas, sites, metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from service.inference import Runtime, runtime
from service.openapi import problems
from service.registry import Version
from service.schemas import Limits, ModelDetail, ModelList, ModelSummary, Output, VersionStatus

router = APIRouter(prefix="/v1/models", tags=["models"])

Run = Annotated[Runtime, Depends(runtime)]
Name = Annotated[str, Path(description="Name of the model.", examples=["diabetes"])]
Number = Annotated[int, Path(ge=1, description="Version of the model.", examples=[1])]


@router.get("", summary="List the models")
async def list_models(run: Run) -> ModelList:
    """Every model of the repository with its versions, also those that could not be loaded."""
    return ModelList(models=[_summary(run, name) for name in run.registry.names()])


@router.get("/{model}", summary="Describe a model", responses=problems(404, 422))
async def get_model(run: Run, model: Name) -> ModelDetail:
    """The version that answers when none is named: inputs, outputs, sites, defaults, metrics."""
    return _detail(run, run.registry.find(model))


@router.get(
    "/{model}/versions/{version}",
    summary="Describe a version of a model",
    responses=problems(404, 422),
)
async def get_version(run: Run, model: Name, version: Number) -> ModelDetail:
    """Inputs, outputs, sites, defaults and metrics of this version."""
    return _detail(run, run.registry.find(model, version))


def _versions(run: Runtime, name: str) -> list[VersionStatus]:
    return [
        VersionStatus(version=version.number, state=version.state, reason=version.reason)
        for version in run.registry.versions(name)
    ]


def _summary(run: Runtime, name: str) -> ModelSummary:
    version = run.registry.find(name)
    manifest = version.loaded.manifest if version.loaded else None
    return ModelSummary(
        name=name,
        version=version.number,
        state=version.state,
        description=manifest.description if manifest else "",
        task=manifest.task.kind if manifest else None,
        versions=_versions(run, name),
    )


def _detail(run: Runtime, version: Version) -> ModelDetail:
    limits = run.settings
    return ModelDetail(
        name=version.name,
        version=version.number,
        state=version.state,
        reason=version.reason,
        versions=_versions(run, version.name),
        limits=Limits(
            max_rows=limits.max_rows,
            max_samples=limits.max_samples,
            max_body_bytes=limits.max_body_bytes,
        ),
        **_card(version),
    )


def _card(version: Version) -> dict[str, Any]:
    if version.loaded is None:
        return {}
    manifest = version.loaded.manifest
    return {
        "description": manifest.description,
        "task": manifest.task,
        "classes": manifest.classes,
        "inputs": manifest.inputs,
        "outputs": [
            Output(name=field.name, dtype=field.dtype, shape=field.shape, meaning=field.meaning)
            for field in version.loaded.fields
            if field.name != "samples"  # said beside the outputs, not among them
        ],
        "sites": manifest.sites,
        "defaults": manifest.defaults,
        "metrics": manifest.metrics,
        "provenance": manifest.provenance,
    }
