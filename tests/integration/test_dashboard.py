"""Grafana's dashboard and the alert rules by their text: every metric that they speak of exists and has the
labels and the type that they take it for; the dashboard is whole. test_prometheus.py asks them of a real
Prometheus. Grafana itself is not started: Debian has no package of it."""

import re
import shutil
import subprocess

import pytest
import yaml
from monitoring import dashboard, filled_in, metrics, panel_queries, rules, variables

OF_PROMETHEUS = {"up": ("gauge", set()), "ALERTS": ("gauge", {"alertname", "alertstate"}),
                 "job_site:nemogate_lag_entries:sum": ("gauge", {"site"})}
TARGET = {"job", "instance"}
OVER_TIME = {"rate": "counter", "increase": "counter", "delta": "gauge", "deriv": "gauge",
             "changes": "gauge", "max_over_time": "gauge"}
WORDS = {"sum", "min", "max", "count", "topk", "by", "without", "and", "or", "unless", "on", "offset",
         "vector", "absent", "time", "histogram_quantile", "m", "h", "d", *OVER_TIME}


def look_up(table, name):
    """(type, labels) of a metric, or of a histogram's part."""
    part = re.fullmatch(r"(\w+)_(bucket|sum|count)", name)
    if part and table.get(part[1], ("",))[0] == "histogram":
        return "counter", table[part[1]][1] | ({"le"} if part[2] == "bucket" else set())
    assert name in table, f"there is no metric {name}"
    assert table[name][0] != "histogram", f"{name} is a histogram: _bucket, _sum or _count"
    return table[name]


def check_expression(table, expression):
    """Fails where it speaks of what is not there. Returns the labels that its result may have."""
    bare = re.sub(r'"[^"]*"|\'[^\']*\'', '""', expression)
    for labels in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", bare):
        assert labels, expression
    without_groups = re.sub(r"\b(?:by|on|without) \([^)]*\)", " ", bare)
    without_ranges = re.sub(r"\[[^]]*\]", " ", without_groups)
    selectors = re.findall(r"([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?", re.sub(
        r"\{[^}]*\}", lambda found: re.sub(r"\s", "", found[0]), without_ranges))
    known = set(TARGET)
    names = [(name, labels) for name, labels in selectors if name not in WORDS]
    assert names, expression
    for name, selector in names:
        kind, labels = look_up(table, name)
        used = set(re.findall(r"(\w+)[=!]", selector))
        assert used <= labels | TARGET, f"{name} has no labels {used - labels - TARGET}"
        known |= labels
        around = re.findall(r"(\w+)\(\s*" + re.escape(name) + r"(?:\{[^}]*\})?\s*\[", bare)
        assert all(OVER_TIME[function] == kind or function == "changes" for function in around), \
            f"{name} is a {kind}: {expression}"
        if kind == "counter" and "unless" not in expression:
            assert around, f"{name} is a counter, and means nothing without rate(): {expression}"
    for labels in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", bare):
        assert set(labels.replace(" ", "").split(",")) <= known | {"severity"}, expression
    if "histogram_quantile" in expression:
        assert re.search(r"by \([^)]*\ble\b[^)]*\) \(rate\(\w+_bucket", expression), expression
    groups = re.findall(r"\bby \(([^)]*)\)", bare)
    return {label.strip() for group in groups for label in group.split(",")} if groups else known


def table_of_all():
    return {**metrics(), **OF_PROMETHEUS}


def test_each_query_speaks_of_what_exists():
    table = table_of_all()
    for title, target in panel_queries():
        labels = check_expression(table, target["expr"])
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= labels, f"{title}: the legend has labels that the query drops: {shown - labels}"


def test_each_rule_speaks_of_what_exists():
    for rule in rules():
        check_expression(table_of_all(), rule["expr"])


@pytest.mark.parametrize("wrong", [
    "nemogate_nothing_total", "rate(nemogate_lag_entries[5m])", "sum(nemogate_acked_total)",
    'nemogate_lag_entries{broker="main"}', "sum by (code) (nemogate_lag_entries)",
    "histogram_quantile(0.9, rate(nemogate_puback_seconds_bucket[5m]))", "nemogate_puback_seconds",
    "increase(nemogate_puback_seconds[5m])"])
def test_a_wrong_query_is_found(wrong):
    with pytest.raises(AssertionError):
        check_expression(table_of_all(), wrong)


def test_each_query_parses(tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    file = tmp_path / "queries.yml"
    named = [{"record": f"query:{n}", "expr": filled_in(target["expr"], "1m")}
             for n, (_, target) in enumerate(panel_queries())]
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": named}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(file)], text=True, capture_output=True,
                             timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dashboard_is_whole():
    board = dashboard()
    assert board["id"] is None and board["uid"] and board["title"] and board["schemaVersion"] >= 36
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["All well?", "Flow", "What waits", "Latency", "Brokers", "Dead letters", "Process"]
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels:
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("stat", "timeseries", "heatmap", "table"), panel["title"]
        assert panel["title"] and panel["description"] and panel["datasource"] == source
        ids = [target["refId"] for target in panel["targets"]]
        assert ids and len(set(ids)) == len(ids), panel["title"]
        assert all(target["datasource"] == source for target in panel["targets"]), panel["title"]


def test_no_panel_lies_on_another():
    taken = {}
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_the_variables_are_those_of_the_metrics():
    table = table_of_all()
    for name, entry in variables().items():
        if entry["type"] == "datasource":
            continue
        metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", entry["definition"]).groups()
        assert label in look_up(table, metric)[1] | TARGET and label == name
        assert entry["query"]["query"] == entry["definition"] and entry["allValue"] == ".*"
