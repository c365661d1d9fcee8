"""The HTTP endpoints, a router for each part of the API."""

from service.routes import (
    calibration,
    health,
    management,
    metrics,
    models,
    oip,
    predict,
    repository,
    stream,
)

routers = (
    predict.router,
    stream.router,
    calibration.router,
    models.router,
    management.router,
    oip.router,
    repository.router,
    health.router,
    metrics.router,
)

__all__ = ["routers"]
