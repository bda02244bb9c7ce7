"""Settings of the embedded Qdrant. Environment prefix `GANNET_EDGE_`."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gannet_edge.validate import Limits
from gannet_service.config import ServiceConfig


class EdgeConfig(ServiceConfig):
    """A `ServiceConfig` with a folder for the data, bounds for what is stored and asked, and the optimiser's pace."""

    model_config = SettingsConfigDict(env_prefix="GANNET_EDGE_")
    service: ClassVar[str] = "edge"

    data_dir: Path = Field(
        Path("data/qdrant"), description="Folder of the collections; one process at a time may use it."
    )
    segment_points_max: int = Field(
        20_000,
        ge=1_000,
        le=1_000_000,
        description="Points a segment holds before it is closed. Closing one stops all answers for about 25 µs a point of 384 dimensions.",
    )
    search_threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Threads that read a collection's segments side by side. One is the thread that answers, which is the cheapest; "
        "more make a search shorter where a collection has several segments and the machine cores to spare.",
    )
    optimise_idle_s: float = Field(
        2.0, ge=0, le=3600, description="Time without requests after which changed collections are optimised, seconds."
    )
    collections_max: int = Field(64, ge=1, le=1_000, description="Collections on this server.")
    points_max: int = Field(1_000_000, ge=1, le=100_000_000, description="Points in one collection.")
    upsert_points_max: int = Field(1_000, ge=1, le=100_000, description="Points in one Upsert.")
    ids_max: int = Field(10_000, ge=1, le=1_000_000, description="Point ids in one request.")
    payload_bytes_max: int = Field(256 << 10, ge=1, le=16 << 20, description="Payload of one point, serialised, bytes.")
    payload_depth_max: int = Field(16, ge=1, le=32, description="Nesting of a payload; 1 is a flat object.")
    sparse_terms_max: int = Field(4_096, ge=1, le=1_000_000, description="Non-zero terms of one sparse vector.")
    results_max: int = Field(
        10_000, ge=1, le=10_000, description="Results, offset included, of one query, prefetch or page."
    )
    prefetches_max: int = Field(8, ge=1, le=64, description="Prefetches of one query.")
    batch_queries_max: int = Field(64, ge=1, le=1_000, description="Queries in one QueryBatch.")
    conditions_max: int = Field(256, ge=1, le=10_000, description="Conditions in one filter, nested ones included.")

    disk_free_bytes_min: int = Field(
        256 << 20,
        ge=0,
        le=1 << 50,
        description="Free disk space below which writes other than deletions are refused, bytes.",
    )

    def limits(self) -> Limits:
        """The bounds that requests are checked against."""
        return Limits(
            collections=self.collections_max,
            points=self.points_max,
            upsert_points=self.upsert_points_max,
            ids=self.ids_max,
            payload_bytes=self.payload_bytes_max,
            payload_depth=self.payload_depth_max,
            sparse_terms=self.sparse_terms_max,
            results=self.results_max,
            prefetches=self.prefetches_max,
            batch_queries=self.batch_queries_max,
            conditions=self.conditions_max,
            disk_free_bytes=self.disk_free_bytes_min,
        )
