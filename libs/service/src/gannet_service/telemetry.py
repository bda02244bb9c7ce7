"""Logs, traces and metrics. The OpenTelemetry SDK and the logging tree are set up here and nowhere else."""

import logging
import sys
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from prometheus_client import start_http_server

from gannet_service import call
from gannet_service.config import ServiceConfig

LOG_FILE_BYTES = 20 << 20
LOG_FILES = 3
_READY = "gannet.ready"


def set_up(config: ServiceConfig) -> None:
    """Set up logging, tracing and the metrics endpoint for this process; call it once, first."""
    _set_up_logging(config)
    _set_up_tracing(config)
    if config.metrics_port:
        start_http_server(config.metrics_port, addr=config.host)


def flush() -> None:
    """Send what tracing still holds, at most the exporter's own timeout long."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def _set_up_logging(config: ServiceConfig) -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name_the_call(config.service),
    ]
    rendered: list[structlog.typing.Processor] = [
        structlog.processors.dict_tracebacks,
        structlog.processors.JSONRenderer(),
    ]
    formatter = _Formatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
    )
    handler: logging.Handler = logging.StreamHandler(sys.stdout)
    if config.log_file is not None:
        config.log_file.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(config.log_file, maxBytes=LOG_FILE_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    handler.setFormatter(formatter)
    # Our own lines go straight to the handler: the way through the standard library's loggers took 30 µs more for each call's line.
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(config.log_level),
        logger_factory=lambda *_names: _Lines(handler),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(config.log_level)
    for noisy in ("httpx", "httpcore", "numba", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Lines:
    """What structlog writes through: lines that are ready, to the handler that everybody else's go to."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def msg(self, line: str) -> None:
        self._handler.handle(logging.LogRecord(_READY, logging.INFO, "", 0, line, None, None))

    debug = info = warning = error = critical = exception = msg


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Leaves the lines of `_Lines` as they are."""

    def format(self, record: logging.LogRecord) -> str:
        return record.msg if record.name is _READY else super().format(record)


def _name_the_call(service: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        trace_id = call.trace_id()
        if trace_id:
            event["trace_id"] = trace_id
        current = call.current()
        if current is not None:
            event["request_id"] = current.request_id
        return event

    return add


def _set_up_tracing(config: ServiceConfig) -> None:
    if not config.otlp_endpoint:
        return  # spans that nobody reads are not made; the caller's trace id goes on to logs and calls all the same
    resource = Resource.create({"service.name": f"gannet-{config.service}"})
    provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(config.trace_sample_ratio))
    exporter = OTLPSpanExporter(endpoint=config.otlp_endpoint, insecure=not config.otlp_endpoint.startswith("https"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
