"""Traces leave the process when an OTLP endpoint is set."""

from typing import Any

import grpc

from gannet.embedder.v1 import embedder_pb2, embedder_pb2_grpc

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


def test_server_with_an_otlp_endpoint_exports_spans_of_the_callers_trace(start_service, models_dir, collector):
    """The span is the caller's child, named after the method; what is left is sent when the server stops."""
    servicer, endpoint = collector
    service = start_service(
        "gannet_embedder", {"GANNET_EMBEDDER_MODELS_DIR": models_dir, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    )
    with grpc.insecure_channel(service.address) as channel:
        info: Any = embedder_pb2_grpc.EmbedderStub(channel).Info
        info(embedder_pb2.InfoRequest(), metadata=(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"),), timeout=10)
    service.stop()
    assert servicer.arrived.wait(10)
    (span,) = [span for span in servicer.spans if span.name.endswith("Embedder/Info")]
    assert span.trace_id.hex() == TRACE_ID
    assert span.parent_span_id.hex() == PARENT_ID
