"""`python -m gannet_edge`: Qdrant's gRPC API over Qdrant Edge, one process for one data folder."""

import sys
from functools import partial

from qdrant_client import grpc

from gannet_edge.collections_servicer import CollectionsServicer, QdrantServicer
from gannet_edge.config import EdgeConfig
from gannet_edge.optimiser import Optimiser
from gannet_edge.points_servicer import PointsServicer
from gannet_edge.store import Store, StoreError
from gannet_service import serve, telemetry
from gannet_service.config import load
from gannet_service.health import Health

EXIT_STORE = 3
SERVICE_NAMES = ("qdrant.Qdrant", "qdrant.Collections", "qdrant.Points")


async def main() -> None:
    """Read the configuration, build the parts, serve until told to stop."""
    config = load(EdgeConfig)
    telemetry.set_up(config)
    try:
        store = Store(config.data_dir, config.limits(), config.segment_points_max, config.search_threads)
    except StoreError as error:
        print(f"edge: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
        raise SystemExit(EXIT_STORE) from None
    optimiser = Optimiser(store, idle_s=config.optimise_idle_s, segment_points=config.segment_points_max)

    async def close() -> None:
        store.close()

    await serve.serve(
        config,
        service_names=SERVICE_NAMES,
        add=[
            partial(grpc.add_QdrantServicer_to_server, QdrantServicer()),
            partial(grpc.add_CollectionsServicer_to_server, CollectionsServicer(store)),
            partial(grpc.add_PointsServicer_to_server, PointsServicer(store)),
        ],
        health=Health(SERVICE_NAMES, required={"store": store.check}),
        warm=optimiser.start_up,
        background=[optimiser.run],
        close=[close],
    )


if __name__ == "__main__":
    serve.run(main)
