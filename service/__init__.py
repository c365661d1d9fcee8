"""The HTTP server for mcdrop artifacts: native API and Open Inference Protocol v2."""

from service.app import create_app
from service.server import serve
from service.settings import Settings

__all__ = ["Settings", "create_app", "serve"]
