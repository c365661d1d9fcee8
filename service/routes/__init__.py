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
)

routers = (
    predict.router,
    calibration.router,
    models.router,
    management.router,
    oip.router,
    repository.router,
    health.router,
    metrics.router,
)

__all__ = ["routers"]
