"""What the service counts, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from precis.service.models import ServedModel

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DOCUMENTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one application; nothing is shared with others of the same process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "precis_requests", "Answered requests.", ["path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "precis_request_seconds", "From a request's headers to the end of its answer.", ["path"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "precis_requests_in_flight", "Requests that are being answered.", registry=registry
        )
        self.documents = Counter(
            "precis_documents", "Documents that were summarized.", ["model"], registry=registry
        )
        self.batch_documents = Histogram(
            "precis_batch_documents", "Documents in one search.", buckets=_DOCUMENTS, registry=registry
        )
        self.search_seconds = Histogram(
            "precis_search_seconds", "Time of one search.", buckets=_SECONDS, registry=registry
        )
        self.wait_seconds = Histogram(
            "precis_wait_seconds", "Time of a request in the queue.", buckets=_SECONDS, registry=registry
        )

    def watch(self, models: Mapping[str, ServedModel], num_waiting: Callable[[], int]) -> None:
        """Tell of models and queue as they are whenever somebody asks."""
        self.registry.register(_State(models, num_waiting))

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)


class _State(Collector):
    def __init__(self, models: Mapping[str, ServedModel], num_waiting: Callable[[], int]) -> None:
        self._models = models
        self._num_waiting = num_waiting

    def collect(self) -> Iterable[Metric]:
        """The state at this moment."""
        yield GaugeMetricFamily("precis_documents_waiting", "Documents in the queue.", self._num_waiting())
        info = GaugeMetricFamily(
            "precis_model_info", "1 for what answers now.", labels=["model", "version", "digest"]
        )
        swaps = GaugeMetricFamily("precis_model_swaps", "Times that a model was exchanged.", labels=["model"])
        refused = GaugeMetricFamily(
            "precis_model_candidates_refused", "Times that a candidate was refused.", labels=["model"]
        )
        for name, model in self._models.items():
            loaded = model.loaded
            if loaded is not None:
                info.add_metric([name, loaded.version, loaded.summarizer.digest or ""], 1)
            swaps.add_metric([name], model.num_swaps)
            refused.add_metric([name], model.num_refused)
        yield from (info, swaps, refused)
