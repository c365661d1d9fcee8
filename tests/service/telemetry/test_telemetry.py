"""What is counted, as a scrape shows it."""

import asyncio
import math
import threading
import time

import httpx
import numpy as np
import pytest
from starlette.requests import ClientDisconnect

from mcdrop.errors import InputError
from service import Settings
from service.errors import InvalidRequestError, NotReadyError, QueueFullError
from service.telemetry.histogram import Histogram
from service.telemetry.telemetry import Telemetry, reason_of

MODEL = {"model": "m", "version": "1"}
BODY = {"inputs": [[1, 2, 3]]}


@pytest.fixture
def telemetry():
    return Telemetry()


def value(telemetry, name, **labels):
    return telemetry.registry.get_sample_value(name, MODEL | labels)


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_answer_is_counted_in_microseconds(telemetry):
    telemetry.answered("m", 1, rows=3, queued=0.5, computed=1.25, total=2.0)
    telemetry.answered("m", 1, rows=4, queued=0.5, computed=0.25, total=1.0)
    assert value(telemetry, "nv_inference_request_success") == 2
    assert value(telemetry, "nv_inference_count") == 7
    assert value(telemetry, "nv_inference_queue_duration_us") == 1_000_000
    assert value(telemetry, "nv_inference_compute_infer_duration_us") == 1_500_000
    assert value(telemetry, "nv_inference_request_duration_us") == 3_000_000


def test_a_step_counts_rows_times_samples(telemetry):
    telemetry.step("m", 1, rows=3, samples=16, seconds=0.02)
    telemetry.step("m", 1, rows=2, samples=8, seconds=0.2)
    assert value(telemetry, "nv_inference_exec_count") == 2
    assert value(telemetry, "mcdrop_samples_total") == 64
    assert value(telemetry, "mcdrop_step_seconds_bucket", le="0.025") == 1
    assert value(telemetry, "mcdrop_step_seconds_sum") == pytest.approx(0.22)


def test_waiting_requests_come_and_go(telemetry):
    for change in (1, 1, -1):
        telemetry.pending("m", 1, change)
    assert value(telemetry, "nv_inference_pending_request_count") == 1


def test_resident_rows_are_those_of_now(telemetry):
    telemetry.resident("cpu", 5)
    telemetry.resident("cpu", 2)
    assert telemetry.registry.get_sample_value("mcdrop_resident_rows", {"device": "cpu"}) == 2


def test_rows_are_counted_by_their_fields(telemetry):
    fields = {
        "samples": np.array([16, 64, 64]),
        "entropy": np.array([[0.05, 0.5], [1.2, 9.0], [math.nan, math.inf]], np.float32),
        "variance": np.zeros(3),
    }
    telemetry.rows_done("m", 1, fields, early=1)
    assert value(telemetry, "mcdrop_early_stops_total") == 1
    assert value(telemetry, "mcdrop_samples_per_row_bucket", le="16.0") == 1
    assert value(telemetry, "mcdrop_samples_per_row_bucket", le="64.0") == 3
    assert value(telemetry, "mcdrop_samples_per_row_sum") == 144
    assert value(telemetry, "mcdrop_predictive_entropy_count") == 4
    assert value(telemetry, "mcdrop_predictive_entropy_sum") == pytest.approx(10.75)
    assert value(telemetry, "mcdrop_mutual_information_count") == 0


def test_a_histogram_counts_as_numpy_does():
    values = np.random.default_rng(0).normal(size=1000)
    bounds = np.linspace(-2, 2, 9)
    histogram, one_by_one = Histogram(bounds), Histogram(bounds)
    histogram.add_all(values)
    for number in values:
        one_by_one.add(number)
    expected = [*((values <= bound).sum() for bound in bounds), 1000]
    assert [count for _, count in histogram.cumulative()] == expected
    assert histogram.cumulative() == one_by_one.cumulative()
    assert histogram.sum == pytest.approx(values.sum())


def test_a_bound_belongs_to_its_bucket():
    histogram = Histogram((1.0, 2.0))
    histogram.add(1.0)
    histogram.add_all(np.array([2, 2]))
    assert histogram.cumulative() == [("1.0", 1), ("2.0", 3), ("+Inf", 3)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (QueueFullError("full"), "REJECTED"),
        (NotReadyError("stopping"), "REJECTED"),
        (asyncio.CancelledError(), "CANCELED"),
        (ClientDisconnect(), "CANCELED"),
        (InvalidRequestError("no"), "OTHER"),
        (InputError("no"), "OTHER"),
        (RuntimeError("out of memory"), "BACKEND"),
    ],
)
def test_reasons_are_triton_s(telemetry, error, reason):
    assert reason_of(error) == reason
    telemetry.failed("m", 1, reason_of(error))
    assert value(telemetry, "nv_inference_request_failure", reason=reason) == 1


def test_counts_from_many_threads_add_up(telemetry):
    def work():
        for _ in range(500):
            telemetry.step("m", 1, rows=2, samples=16, seconds=0.01)
            telemetry.pending("m", 1, 1)
            telemetry.rows_done("m", 1, {"samples": np.array([16, 16])}, early=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        list(telemetry.registry.collect())  # a scrape in the middle
    for thread in threads:
        thread.join()
    assert value(telemetry, "mcdrop_samples_total") == 4 * 500 * 32
    assert value(telemetry, "nv_inference_pending_request_count") == 2000
    assert value(telemetry, "mcdrop_samples_per_row_count") == 4000


def test_a_scrape_is_of_one_moment(telemetry):
    telemetry.step("m", 1, rows=1, samples=1, seconds=0.1)
    families = telemetry.collect()
    telemetry.step("m", 1, rows=1, samples=1, seconds=0.1)
    found = {sample.name: sample.value for family in families for sample in family.samples}
    assert found["mcdrop_samples_total"] == found["mcdrop_step_seconds_count"] == 1


def test_what_is_ready_has_its_series_before_it_is_asked(telemetry):
    telemetry.watch(lambda: [("m", 1, "ready"), ("m", 2, "loading"), ("m", 3, "warming")])
    assert value(telemetry, "nv_inference_request_success") == 0
    assert value(telemetry, "nv_inference_request_success", version="2") is None
    for version, state in (("1", "ready"), ("2", "loading"), ("3", "warming")):
        assert value(telemetry, "mcdrop_model_state", version=version, state=state) == 1
    for state in ("loading", "unavailable", "unloaded"):
        assert value(telemetry, "mcdrop_model_state", state=state) == 0


def test_versions_that_are_gone_lose_their_series_once_nobody_waits(telemetry):
    telemetry.watch(lambda: [("m", 2, "ready")])
    telemetry.pending("m", 1, 1)
    assert value(telemetry, "nv_inference_pending_request_count") == 1
    telemetry.pending("m", 1, -1)
    list(telemetry.collect())
    assert value(telemetry, "nv_inference_pending_request_count") is None


def test_two_applications_count_apart(start, repository, client, live):
    with start(Settings(models=repository, device="cpu")) as other:
        before = scrape(client)["nv_inference_count"]
        other.client.post("/v1/models/meter/predict", json=BODY)
        assert scrape(client)["nv_inference_count"] == before
        assert scrape(other.client)["nv_inference_count"] == 1


def scrape(client, model="meter", version="1"):
    """Values of one model's series, by name; reasons follow a colon."""
    found = {}
    for line in client.get("/metrics").text.splitlines():
        if f'model="{model}"' in line and f'version="{version}"' in line and "le=" not in line:
            name, _, number = line.rpartition(" ")
            reason = name.partition('reason="')[2].partition('"')[0]
            found[name.partition("{")[0] + (f":{reason}" if reason else "")] = float(number)
    return found


def change(client, ask, **model):
    before = scrape(client, **model)
    ask()
    return {name: value - before.get(name, 0) for name, value in scrape(client, **model).items()}


def test_a_prediction_is_counted(client):
    body = {"inputs": [[1, 2, 3, 4]] * 5, "samples": 32}
    found = change(
        client,
        lambda: client.post("/v1/models/shapes/predict", json=body),
        model="shapes",
        version="2",
    )
    assert found["nv_inference_request_success"] == 1
    assert found["nv_inference_count"] == 5
    assert found["mcdrop_samples_per_row_count"] == 5
    assert found["mcdrop_samples_per_row_sum"] == 160
    assert found["mcdrop_predictive_entropy_count"] == 5
    assert found["mcdrop_mutual_information_count"] == 5
    assert found["mcdrop_early_stops_total"] == 0
    queue, compute, request = (
        found[f"nv_inference_{part}_duration_us"] for part in ("queue", "compute_infer", "request")
    )
    assert compute > 0
    assert queue + compute <= request + 2  # each is rounded


def test_an_early_stop_is_counted(client):
    body = {"inputs": [[1, 2, 3]] * 2, "samples": 500, "tolerance": 1000.0}
    found = change(client, lambda: client.post("/v1/models/meter/predict", json=body))
    assert found["mcdrop_early_stops_total"] == 2
    assert 0 < found["mcdrop_samples_per_row_sum"] < 1000


def test_infer_of_the_open_protocol_is_counted(client):
    tensor = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 1, 2, 3]}
    found = change(client, lambda: client.post("/v2/models/meter/infer", json={"inputs": [tensor]}))
    assert found["nv_inference_count"] == 2


def test_an_unknown_model_makes_no_series(client):
    for path in ("/v1/models/m4de-up/predict", "/v2/models/m4de-up/infer", "/m4de-up"):
        assert client.post(path, json=BODY).status_code == 404
    assert "m4de-up" not in client.get("/metrics").text


def test_a_full_queue_is_a_rejection(start, repository):
    with start(Settings(models=repository, device="cpu", queue_size=1)) as live:
        release = threading.Event()
        occupied = live.runtime.scheduler._workers[0].run(lambda: release.wait(30))
        until(occupied.running)
        path = "/v1/models/meter/predict"
        waiting = threading.Thread(target=live.client.post, args=(path,), kwargs={"json": BODY})
        waiting.start()
        pending = 'nv_inference_pending_request_count{model="meter",version="1"} 1'
        until(lambda: pending in live.client.get("/metrics").text)
        found = change(live.client, lambda: live.client.post(path, json=BODY))
        release.set()
        waiting.join(30)
        assert found["nv_inference_request_failure:REJECTED"] == 1
        assert found["nv_inference_request_success"] == 0


def test_a_caller_who_hangs_up_is_a_cancellation(live):
    release = threading.Event()
    occupied = live.runtime.scheduler._workers[0].run(lambda: release.wait(30))
    until(occupied.running)
    before = scrape(live.client)

    def counted(reason):
        name = f"nv_inference_request_failure:{reason}"
        return scrape(live.client)[name] - before[name]

    with pytest.raises(httpx.ReadTimeout):
        live.client.post("/v1/models/meter/predict", json=BODY, timeout=0.3)
    until(lambda: counted("CANCELED") == 1)
    release.set()
    assert counted("BACKEND") == 0


def test_a_bug_is_a_failure_of_the_backend(start, repository):
    with start(Settings(models=repository, device="cpu")) as live:
        object.__setattr__(live.runtime.registry.ready("meter"), "predictors", ())
        with httpx.Client(base_url=live.client.base_url) as asking:
            found = change(live.client, lambda: asking.post("/v1/models/meter/predict", json=BODY))
    assert found["nv_inference_request_failure:BACKEND"] == 1


@pytest.mark.alone
def test_counting_is_cheap(telemetry):
    random = np.random.default_rng(0)
    fields = {"samples": np.full(32, 64)} | {
        name: random.random(32, np.float32) for name in ("entropy", "mutual_information")
    }

    def seconds(call, times=2000):
        began = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - began) / times

    calls = [
        lambda: telemetry.pending("m", 1, 1),
        lambda: telemetry.answered("m", 1, rows=32, queued=0.1, computed=0.1, total=0.2),
        lambda: telemetry.step("m", 1, rows=32, samples=16, seconds=0.02),
        lambda: telemetry.rows_done("m", 1, fields, early=3),
    ]
    # measured: 0.5, 1, 1 and 16 µs
    assert [call for call in calls if min(seconds(call) for _ in range(3)) > 50e-6] == []
