import asyncio

import httpx
import pytest

from service import Settings, create_app


@pytest.mark.parametrize(
    "path",
    [
        "/health/live", "/health/ready", "/v1/models", "/v1/models/shapes",
        "/v1/models/shapes/versions/1", "/v1/models/nope", "/v2", "/v2/health/live",
        "/v2/health/ready", "/v2/models/shapes", "/v2/models/broken/ready", "/openapi.json",
    ],
)  # fmt: skip
def test_head_is_get_without_the_body(client, path):
    got, head = client.get(path), client.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


def test_there_is_no_head_where_there_is_no_get(client):
    assert client.head("/v1/models/shapes/predict").status_code == 405


def test_the_body_is_kept_back_whatever_the_server(repository):
    transport = httpx.ASGITransport(create_app(Settings(models=repository, device="cpu")))

    async def ask():
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.head("/health/live")

    response = asyncio.run(ask())
    assert (response.status_code, response.content) == (200, b"")
