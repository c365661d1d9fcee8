"""What Prometheus reads, parsed by its own client."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

OPENMETRICS = "application/openmetrics-text"
# what Prometheus 3 sends
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TRITON = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_infer_duration_us",
}
OURS = {
    "nv_inference_pending_request_count": "gauge",
    "mcdrop_samples": "counter",
    "mcdrop_samples_per_row": "histogram",
    "mcdrop_predictive_entropy": "histogram",
    "mcdrop_mutual_information": "histogram",
    "mcdrop_resident_rows": "gauge",
    "mcdrop_step_seconds": "histogram",
    "mcdrop_early_stops": "counter",
    "mcdrop_model_state": "gauge",
    "mcdrop_http_request_duration_seconds": "histogram",
}


@pytest.fixture(scope="module", autouse=True)
def asked(client):
    client.post("/v1/models/meter/predict", json={"inputs": [[1, 2, 3]]})


def test_the_text_format_has_the_names_as_they_are_known(client):
    response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in plain(response.text)}
    kinds = {name: family.type for name, family in families.items()}
    assert kinds | OURS | dict.fromkeys(TRITON, "counter") == kinds
    for name in TRITON:
        assert f"\n{name}{{" in response.text
        assert f"{name}_total" not in response.text
    for name in ("mcdrop_samples_total", "mcdrop_early_stops_total"):
        assert f"# TYPE {name} counter\n" in response.text
        assert f"\n{name}{{" in response.text


def test_openmetrics_parses_and_has_the_same_samples(client):
    response = client.get("/metrics", headers={"accept": OPENMETRICS})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.")
    assert response.text.endswith("# EOF\n")
    families = {family.name: family for family in openmetrics(response.text)}
    kinds = {name: family.type for name, family in families.items()}
    # a counter without the suffix _total is no counter there
    assert kinds | OURS | dict.fromkeys(TRITON, "unknown") == kinds

    def names(parsed):
        return {
            (_as_written(sample.name), *sorted(sample.labels.items()))
            for family in parsed
            for sample in family.samples
            if "route" not in sample.labels
        }

    assert names(families.values()) == names(plain(client.get("/metrics").text))


def _as_written(name):
    """The Python parser, unlike Prometheus, adds the suffix that OpenMetrics would want."""
    bare = name.removesuffix("_total")
    return bare if bare in TRITON else name


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS, OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.6,application/openmetrics-text;q=0.5", "text/plain"),
        ("application/openmetrics-text;version=nonsense", OPENMETRICS),
        ("application/openmetrics-text;q=0", "text/plain"),
        ("application/openmetrics-text;q=\N{SUPERSCRIPT TWO}".encode(), OPENMETRICS),
        ("text/html, */*;q=0.8", "text/plain"),
        ("", "text/plain"),
        (";;,=,", "text/plain"),
    ],
)
def test_accept_decides_on_the_format(client, accept, expected):
    response = client.get("/metrics", headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(expected)


def test_operators_find_what_they_expect(client):
    samples = {
        (sample.name, sample.labels.get("model"), sample.labels.get("version")): sample
        for family in plain(client.get("/metrics").text)
        for sample in family.samples
        if sample.value == 1 or not sample.labels
    }
    assert samples["process_resident_memory_bytes", None, None].value > 0
    assert samples["process_cpu_seconds_total", None, None].value > 0
    build = next(s for (name, *_), s in samples.items() if name == "mcdrop_build_info")
    assert set(build.labels) == {"version", "torch", "python"}
    assert samples["mcdrop_model_state", "shapes", "2"].labels["state"] == "ready"
    assert samples["mcdrop_model_state", "broken", "1"].labels["state"] == "unavailable"


def test_requests_are_timed_by_route_and_class_of_status(client):
    def counts():
        return {
            (sample.labels["route"], sample.labels["status"]): sample.value
            for family in plain(client.get("/metrics").text)
            for sample in family.samples
            if sample.name == "mcdrop_http_request_duration_seconds_count"
        }

    before = counts()
    client.get("/v1/models/meter")
    client.get("/v1/models/shapes")
    client.head("/v1/models/shapes")
    client.get("/v1/models/nope")
    client.get("/no/such/path")
    client.get("/no/other/path")
    after = counts()
    grown = {key: after[key] - before.get(key, 0) for key in after}
    assert grown["/v1/models/{model}", "2xx"] == 3
    assert grown["/v1/models/{model}", "4xx"] == 1
    assert grown["other", "4xx"] == 2
    assert {status for _, status in after} <= {"2xx", "3xx", "4xx", "5xx"}
    assert not [route for route, _ in after if "nope" in route or "no/" in route]


def test_the_scrape_itself_is_a_get(client):
    assert client.post("/metrics").status_code == 405
    head = client.head("/metrics")
    assert (head.status_code, head.content) == (200, b"")
