"""What the package prometheus-api-client gets from a server, as JSON: `api_client.py URL FIRST LAST` (seconds since 1970)."""

import json
import sys
from datetime import datetime, timedelta

from prometheus_api_client import PrometheusApiClientException, PrometheusConnect

url = sys.argv[1]
first, last = (datetime.fromtimestamp(int(text)) for text in sys.argv[2:4])
at = {"time": sys.argv[3]}


def ordered(series):
    """Servers may list series in any order."""
    return sorted(series, key=lambda one: json.dumps(one.get("metric", one), sort_keys=True))


def answers(method):
    """What every call of the package returns."""
    prometheus = PrometheusConnect(url=url, method=method)
    operations = ["sum", "max", "min", "average", "percentile_95", "deviation", "variance"]
    chunks = prometheus.get_metric_range_data(
        "temperature_celsius",
        label_config={"dc": "east"},
        start_time=first,
        end_time=last,
        chunk_size=timedelta(minutes=5),
    )
    found = {
        "check_prometheus_connection": prometheus.check_prometheus_connection(),
        "all_metrics": prometheus.all_metrics(),
        "get_label_names": prometheus.get_label_names(),
        "get_label_values": prometheus.get_label_values("instance", params={"match[]": "temperature_celsius"}),
        "get_series": ordered(prometheus.get_series(first, last, params={"match[]": '{job="api"}'})),
        "get_current_metric_value": ordered(
            prometheus.get_current_metric_value("temperature_celsius", label_config={"dc": "west"}, params=at)
        ),
        "get_metric_range_data": ordered(chunks),
        "custom_query": ordered(prometheus.custom_query("sum by (dc, code) (rate(http_requests_total[5m]))", params=at)),
        "custom_query_range": ordered(
            prometheus.custom_query_range(
                "histogram_quantile(0.9, sum by (le) (rate(request_seconds_bucket[2m])))", first, last, "30"
            )
        ),
        "get_metric_aggregation": {
            name: round(float(value), 9)
            for name, value in prometheus.get_metric_aggregation(
                "sum by (instance) (temperature_celsius)", operations, first, last, "15"
            ).items()
        },
        "get_metric_aggregation of one time": prometheus.get_metric_aggregation(
            "count(temperature_celsius)", ["sum"], params=at
        ),
    }
    try:
        prometheus.custom_query("sum(", params=at)
    except PrometheusApiClientException as refusal:
        found["a wrong query"] = str(refusal)
    return found


print(json.dumps({method: answers(method) for method in ("GET", "POST")}, sort_keys=True))
