"""The dashboard and the alerts ask for what a server shows, in expressions that parse."""

import json
import re
from itertools import pairwise
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, Call, MatrixSelector, VectorSelector

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "mcdrop.json").read_text())
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
ALERTS = [
    rule
    for name in PROMETHEUS["rule_files"]
    for group in yaml.safe_load((DEPLOY / name).read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
} | {rule["alert"]: rule["expr"] for rule in ALERTS}
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
ADDED = {"job", "instance"}  # by Prometheus to what it scrapes
FUNCTIONS = {"rate", "increase", "histogram_quantile"}
MONITORS = "mcdrop_monitor_"


@pytest.fixture(scope="module")
def shown(client):
    """Labels by the name of a sample, as a server shows them after a request."""
    body = {"inputs": [[1, 2, 3, 4]], "samples": 16}
    assert client.post("/v1/models/shapes/predict", json=body).status_code == 200
    text = client.get("/metrics").text
    found = {}
    # by line: the Python parser adds _total to Triton's counters, Prometheus does not
    for name, labels in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found[name] = set(re.findall(r'(\w+)="', labels))
    assert len(found) > 30
    assert list(text_string_to_metric_families(text))
    return found


def parse(expression):
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def walk(expression):
    found = []
    promql_parser.walk(parse(expression), found.append)
    return found


def nodes(expression, kind):
    return [node for node in walk(expression) if isinstance(node, kind)]


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_every_metric_and_label_is_shown_by_a_server(shown, title):
    selectors = nodes(EXPRESSIONS[title], VectorSelector)
    assert selectors
    for selector in selectors:
        if selector.name == "up":  # Prometheus' own
            continue
        assert selector.name in shown
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= shown[selector.name] | ADDED
    labels = set().union(*(shown[selector.name] for selector in selectors if selector.name != "up"))
    for aggregate in nodes(EXPRESSIONS[title], AggregateExpr):
        if aggregate.modifier is not None:
            assert set(aggregate.modifier.labels) <= labels | ADDED


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_counters_are_never_read_without_a_rate(title):
    counters = ("_total", "_bucket", "_count", "_sum", "_us", "_success", "_failure")
    found = walk(EXPRESSIONS[title])
    for before, node in pairwise([None, *found]):
        if isinstance(node, VectorSelector) and node.name != "nv_inference_pending_request_count":
            # a selector of a range is visited right before what it selects
            assert isinstance(before, MatrixSelector) == node.name.endswith(counters)
    assert {node.func.name for node in found if isinstance(node, Call)} <= FUNCTIONS


def test_what_a_server_shows_of_its_work_is_on_the_dashboard(shown):
    asked = {
        selector.name
        for expression in EXPRESSIONS.values()
        for selector in nodes(expression, VectorSelector)
    }
    families = {
        re.sub(r"_(bucket|sum|count)$", "", name) if name.startswith("mcdrop") else name
        for name in shown
        if name.startswith(("nv_", "mcdrop_")) and not name.startswith(MONITORS)
    }
    covered = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} | asked
    assert families - covered == {"mcdrop_build_info"}


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_are_told_where_their_data_are_and_what_they_show():
    for panel in PANELS:
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"], panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_variables_are_there_and_used():
    text = json.dumps(PANELS)
    used = set(re.findall(r"\$\{?(\w+)\}?", text)) - {"__rate_interval"}
    assert used == set(VARIABLES) == {"datasource", "model", "version"}
    assert VARIABLES["datasource"]["type"] == "datasource"


@pytest.mark.parametrize("name", ["model", "version"])
def test_variables_are_read_from_a_metric_that_is_there(shown, name):
    query = VARIABLES[name]["query"]["query"]
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
    (found,) = nodes(selector, VectorSelector)
    assert label in shown[found.name]


def test_it_can_be_provisioned():
    assert DASHBOARD["uid"] == "mcdrop"
    assert "id" not in DASHBOARD  # it would be another Grafana's
    assert "__inputs" not in DASHBOARD  # which only an import by hand fills in


def test_alerts_say_what_is_wrong_and_what_to_do():
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names) > 3
    for rule in ALERTS:
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alerts_speak_of_labels_that_their_expression_leaves(shown, rule):
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    grouped = [set(node.modifier.labels) for node in nodes(rule["expr"], AggregateExpr)]
    left = grouped[0] if grouped else {"instance", "job"}
    if not grouped:
        left |= shown.get(nodes(rule["expr"], VectorSelector)[0].name, set())
    assert used <= left


def test_prometheus_scrapes_where_the_server_listens_by_default():
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["job_name"] == "mcdrop"
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert job["static_configs"][0]["targets"] == ["127.0.0.1:8000"]
    for expression in (rule["expr"] for rule in ALERTS):
        assert set(re.findall(r'job="(\w+)"', expression)) <= {"mcdrop"}
