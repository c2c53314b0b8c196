"""OpenTelemetry spans of requests, where an exporter is configured. Imports nothing of the platform, as `serving.app`.

The standard variables decide: ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``..._TRACES_ENDPOINT``) switches it on.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from serving.request_record import RequestRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def configured() -> str | None:
    """Return the name of the variable that asks for traces; None where none does."""
    return next((name for name in _VARIABLES if os.environ.get(name)), None)


def installed() -> bool:
    """Return whether the exporter's package is there."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


class Traces:
    """Writes the spans of requests: one of the whole, and within it one of the computation."""

    def __init__(self, exporter: SpanExporter, **about: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME", "oncolineage-serving")
        self.provider = TracerProvider(resource=Resource.create({"service.name": name}))  # flushes as the process ends
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self.provider.get_tracer("oncolineage.serving")
        self._extract = TraceContextTextMapPropagator().extract
        self._about = {f"oncolineage.{key}": value for key, value in about.items()}

    @classmethod
    def from_environment(cls, **about: str) -> Traces | None:
        """Return what exports to the configured address, or None."""
        if configured() is None:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return cls(OTLPSpanExporter(), **about)

    def write(self, record: RequestRecord, parent: str) -> None:
        """Write the spans of a request that ends now; ``parent`` is its header ``traceparent``, or empty."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        clock = time_ns() - int(perf_counter() * 1e9)

        def at(moment: float) -> int:
            return clock + int(moment * 1e9)

        attributes: dict[str, Any] = {
            **self._about,
            "http.request.method": "POST",
            "http.route": "/invocations",
            "http.response.status_code": record.status,
            "oncolineage.request_id": record.id,
            "oncolineage.rows": record.rows,
        }
        if record.reason:
            attributes["error.type"] = record.reason
        # Of a client's headers the ids alone: `tracestate` and baggage could hold anything.
        context, kind = self._extract({"traceparent": parent}), SpanKind.SERVER
        span = self._tracer.start_span("POST /invocations", context, kind, attributes, start_time=at(record.arrived))
        if record.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if record.turn is not None:
            inner = self._tracer.start_span("compute", set_span_in_context(span), start_time=at(record.turn))
            inner.end()
        span.end()
