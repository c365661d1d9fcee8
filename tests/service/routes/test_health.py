import asyncio
import threading

import httpx

from service import Settings, create_app


def test_live_and_ready(client):
    assert client.get("/health/live").json() == {"status": "live"}
    response = client.get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})


def test_not_ready_while_loading_and_while_stopping(repository):
    async def main():
        app = create_app(Settings(models=repository, device="cpu"))
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
            app.router.lifespan_context(app),
        ):
            loading = [await client.get(path) for path in paths]
            run = app.state.runtime
            while run.registry.state() == "loading":
                await asyncio.sleep(0.02)
            assert (await client.get("/health/ready")).status_code == 200
            release = threading.Event()
            running = asyncio.create_task(run.scheduler.run(lambda: release.wait(30)))
            await asyncio.sleep(0.05)
            closing = asyncio.create_task(run.scheduler.close())
            await asyncio.sleep(0.05)
            stopping = [await client.get(path) for path in paths]
            body = {"inputs": [[1, 2, 3]]}
            refused = await client.post("/v1/models/meter/predict", json=body)
            release.set()
            await asyncio.gather(running, closing)
        return loading, stopping, refused

    paths = ("/health/live", "/health/ready", "/v2/health/ready", "/v2/models/meter/ready")
    loading, stopping, refused = asyncio.run(main())
    assert [response.status_code for response in loading] == [200, 503, 503, 503]
    assert [response.status_code for response in stopping] == [200, 503, 503, 503]
    assert loading[1].json() == {"status": "loading"}
    assert stopping[1].json() == {"status": "stopping"}
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
