"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from edge_et.results import Answer
from edge_et.serve.usage import usage_of

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120)


class Metrics:
    """Counters of one server.

    Attributes:
        registry: holds them all, and what the process takes.
        refused: requests that found no room.
        under_way: requests that are answered or wait.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.refused = self._counter("refused_requests", "Requests that found no room")
        self.under_way = Gauge(
            "edge_et_requests_under_way",
            "Requests that are answered or wait",
            registry=self.registry,
        )
        self._requests = self._counter("requests", "Requests", "path", "status")
        self._tokens = self._counter("tokens", "Tokens", "model", "kind")
        self._pictures = self._counter("pictures", "Pictures that were looked at", "model")
        self._seconds = Histogram(
            "edge_et_phase_seconds",
            "Time of a phase of an answer",
            ["model", "phase"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._cut = self._counter("cut_stages", "Stages that ended early", "stage", "reason")

    def count_request(self, path: str, status: int) -> None:
        """Count a request.

        Args:
            path: of a route, not what a client wrote.
            status: of the reply.
        """
        self._requests.labels(path, str(status)).inc()

    def count(self, model: str, answer: Answer) -> None:
        """Count what an answer took."""
        usage = usage_of(answer)
        for kind in ("prompt", "cached", "image", "completion"):
            self._tokens.labels(model, kind).inc(getattr(usage, f"{kind}_tokens"))
        self._pictures.labels(model).inc(usage.pictures)
        for phase, took in answer.usage.items():
            self._seconds.labels(model, phase).observe(took.seconds)
        for stage, reason in answer.finish_reasons.items():
            if reason != "stop":
                self._cut.labels(stage, reason).inc()

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"edge_et_{name}", what, labels, registry=self.registry)
