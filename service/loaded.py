"""A model that can predict."""

from __future__ import annotations

from dataclasses import dataclass

import mcdrop
from mcdrop.program.manifest import Manifest
from mcdrop.residency import Residency
from service.fields import FieldSpec


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Loaded:
    """A model that can predict, under the name and version of its folder.

    Whoever answers a request with it holds it; its memory is free when the last one lets go.

    Attributes:
        name: of the model.
        version: of the model.
        predictors: one on each of the scheduler's devices.
        residencies: of these predictors.
        manifest: of the artifact.
        fields: of its predictions.
    """

    name: str
    version: int
    predictors: tuple[mcdrop.MCDropout, ...]
    residencies: tuple[Residency, ...]
    manifest: Manifest
    fields: tuple[FieldSpec, ...]

    @property
    def predictor(self) -> mcdrop.MCDropout:
        """That of the first device; what it tells of the model holds for all."""
        return self.predictors[0]
