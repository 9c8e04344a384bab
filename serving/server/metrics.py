"""Metrics in Prometheus' format: TensorFlow Serving's names, and some of our own."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_REQUEST_COUNT = ":tensorflow:serving:request_count"

# Those of TensorFlow Serving: 10 µs times powers of 1.8, to about 20 minutes.
_MICROSECONDS = tuple(10 * 1.8**power for power in range(32))
_ROWS = tuple(2**power for power in range(13))


class Metrics:
    """The metrics of one server, in a registry of its own.

    Attributes:
        batch_rows: Rows of the batches that were computed.
        batch_requests: Requests in them.
        dropped_answers: Answers that the log of served lists did not take.
    """

    def __init__(self, connections: Callable[[], int]) -> None:
        """Initialises the metrics.

        Args:
            connections: Returns the number of open HTTP connections.
        """
        self._registry = CollectorRegistry()
        self._requests = _RequestCount()
        self._registry.register(self._requests)
        self._latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Wall time of requests in microseconds.",
            ["model_name", "API", "entrypoint", "status"],
            buckets=_MICROSECONDS,
            registry=self._registry,
        )
        # Looking a label up takes longer than counting.
        self._latencies: dict[tuple[str, ...], Histogram] = {}
        self.batch_rows = Histogram(
            "fairtowers_batch_rows",
            "Rows of the batches that were computed.",
            ["model_name"],
            buckets=_ROWS,
            registry=self._registry,
        )
        self.batch_requests = Histogram(
            "fairtowers_batch_requests",
            "Requests in the batches that were computed.",
            ["model_name"],
            buckets=_ROWS,
            registry=self._registry,
        )
        self.dropped_answers = Counter(
            "fairtowers_dropped_answers",
            "Answers that the log of served lists did not take.",
            registry=self._registry,
        )
        open_connections = Gauge(
            "fairtowers_http_connections", "Open HTTP connections.", registry=self._registry
        )
        open_connections.set_function(connections)

    def record(self, model: str, entrypoint: str, status: str, seconds: float) -> None:
        """Counts a request to `Predict`.

        Args:
            model: A model that the server knows, or "": names that clients make up would take
                memory without bound.
            entrypoint: `GRPC` or `REST`.
            status: Name of the canonical code.
            seconds: Wall time.
        """
        self._requests.counts[model, status] += 1
        key = (model, "Predict", entrypoint, status)
        if key not in self._latencies:
            self._latencies[key] = self._latency.labels(*key)
        self._latencies[key].observe(seconds * 1e6)

    def page(self) -> bytes:
        """Returns the page for Prometheus."""
        return generate_latest(self._registry)


class _RequestCount(Collector):
    """A counter whose name has no `_total` at its end, as dashboards of TensorFlow Serving ask."""

    def __init__(self) -> None:
        self.counts: Counts[tuple[str, str]] = Counts()

    def collect(self) -> Iterator[Metric]:
        metric = Metric(_REQUEST_COUNT, "The total number of requests.", "unknown")
        for (model, status), count in self.counts.items():
            metric.add_sample(_REQUEST_COUNT, {"model_name": model, "status": status}, count)
        yield metric
