"""SourceService on the wire."""

import time
from typing import Any

from google.protobuf.empty_pb2 import Empty

from gannet.gateway.v1 import sources_pb2, sources_pb2_grpc
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.sources import Sources
from gannet_gateway.names import SourceName, check_collection_id, parse_collection, parse_source
from gannet_gateway.paging import page_size, read_token, write_token
from gannet_gateway.sources import wire
from gannet_gateway.sources.places import Places


class SourceServicer(sources_pb2_grpc.SourceServiceServicer):
    """See sources.proto."""

    def __init__(self, ledger: Ledger, sources: Sources, places: Places) -> None:
        self._ledger = ledger
        self._sources = sources
        self._places = places

    def add_to(self, server: Any) -> None:
        """Serve it."""
        sources_pb2_grpc.add_SourceServiceServicer_to_server(self, server)

    async def CreateSource(self, request: sources_pb2.CreateSourceRequest, context: Any) -> sources_pb2.Source:  # noqa: N802
        del context
        parent = parse_collection(request.parent, "parent")
        name = SourceName(parent.tenant, parent.collection, check_collection_id(request.source_id, "source_id"))
        source = wire.to_source(request.source, name, self._places, time.time())
        return wire.from_source(await self._sources.create(source))

    async def GetSource(self, request: sources_pb2.GetSourceRequest, context: Any) -> sources_pb2.Source:  # noqa: N802
        del context
        return wire.from_source(await self._sources.get(parse_source(request.name, "name")))

    async def ListSources(  # noqa: N802
        self, request: sources_pb2.ListSourcesRequest, context: Any
    ) -> sources_pb2.ListSourcesResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        await self._ledger.collection_settings(parent)
        scope = f"{parent}/sources"
        after = read_token(scope, request.page_token)
        page = await self._sources.list(parent, after=after, limit=page_size(request.page_size))
        return sources_pb2.ListSourcesResponse(
            sources=[wire.from_source(source) for source in page.items],
            next_page_token=write_token(scope, page.next_after),
        )

    async def DeleteSource(self, request: sources_pb2.DeleteSourceRequest, context: Any) -> Empty:  # noqa: N802
        del context
        await self._sources.delete(parse_source(request.name, "name"))
        return Empty()

    async def RunSource(self, request: sources_pb2.RunSourceRequest, context: Any) -> sources_pb2.Source:  # noqa: N802
        del context
        name = parse_source(request.name, "name")
        await self._sources.ask(name)
        return wire.from_source(await self._sources.get(name))
