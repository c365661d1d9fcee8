"""The HTTP endpoints, a router for each part of the API."""

from service.routes import calibration, health, metrics, models, oip, predict

routers = (
    predict.router,
    calibration.router,
    models.router,
    oip.router,
    health.router,
    metrics.router,
)

__all__ = ["routers"]
