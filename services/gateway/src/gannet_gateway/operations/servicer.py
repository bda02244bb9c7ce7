"""google.longrunning.Operations and JobService on the wire."""

import asyncio
from typing import Any

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from gannet.gateway.v1 import jobs_pb2, jobs_pb2_grpc
from gannet_gateway.documents.access import reads_as
from gannet_gateway.documents.build import Ingestion
from gannet_gateway.ledger.operations import Operation
from gannet_gateway.names import OperationName, parse_operation, parse_tenant
from gannet_gateway.operations.wire import from_operation, to_filter
from gannet_gateway.paging import page_size, read_token, write_token
from gannet_service import call
from gannet_service.errors import InvalidInput, NotFound

WAIT_S_MAX = 3600.0
# What is left of the caller's deadline for the reply of WaitOperation.
REPLY_S = 0.2


class OperationServicer(operations_pb2_grpc.OperationsServicer, jobs_pb2_grpc.JobServiceServicer):
    """See jobs.proto."""

    def __init__(self, ingestion: Ingestion) -> None:
        self._operations = ingestion.operations
        self._outcomes = ingestion.outcomes
        self._executor = ingestion.executor
        self._sweeper = ingestion.sweeper

    def add_to(self, server: Any) -> None:
        """Serve both."""
        operations_pb2_grpc.add_OperationsServicer_to_server(self, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(self, server)

    async def _known(self, name: OperationName) -> Operation:
        """The operation; raises NotFound, also where the caller may not know of its documents."""
        operation = await self._operations.get(name.tenant, name.operation)
        if not _is_visible(operation):
            raise NotFound(f"{name} does not exist", field="name")
        return operation

    async def GetOperation(  # noqa: N802
        self, request: operations_pb2.GetOperationRequest, context: Any
    ) -> operations_pb2.Operation:
        del context
        return from_operation(await self._known(parse_operation(request.name, "name")))

    async def ListOperations(  # noqa: N802
        self, request: operations_pb2.ListOperationsRequest, context: Any
    ) -> operations_pb2.ListOperationsResponse:
        del context
        tenant = parse_tenant(request.name.removesuffix("/operations"), "name")
        if request.page_size < 0:
            raise InvalidInput(f"page_size: {request.page_size}; it cannot be negative", field="page_size")
        scope = f"{tenant}/operations/{request.filter}"
        before = read_token(scope, request.page_token)
        if before and not before.isdecimal():
            raise InvalidInput("page_token: not one that this server gave", field="page_token")
        page = await self._operations.page(
            tenant, to_filter(request.filter), before=int(before or 0), limit=page_size(request.page_size)
        )
        return operations_pb2.ListOperationsResponse(
            operations=[from_operation(operation) for operation in page.items if _is_visible(operation)],
            next_page_token=write_token(scope, page.next_after),
        )

    async def WaitOperation(  # noqa: N802
        self, request: operations_pb2.WaitOperationRequest, context: Any
    ) -> operations_pb2.Operation:
        """Until it is done, or the timeout or the call's deadline is near: then as it is."""
        del context
        name = parse_operation(request.name, "name")
        operation = await self._known(name)
        wanted_s = request.timeout.ToNanoseconds() / 1e9 if request.HasField("timeout") else WAIT_S_MAX
        wait_s = min(wanted_s, call.remaining_s(WAIT_S_MAX) - REPLY_S)
        if operation.done or wait_s <= 0:
            return from_operation(operation)
        try:
            async with asyncio.timeout(wait_s):
                operation = await self._outcomes.wait(name.operation)
        except TimeoutError:
            operation = await self._operations.get(name.tenant, name.operation)
        return from_operation(operation)

    async def CancelOperation(self, request: operations_pb2.CancelOperationRequest, context: Any) -> Empty:  # noqa: N802
        del context
        name = parse_operation(request.name, "name")
        await self._known(name)
        await self._operations.cancel(name.tenant, name.operation)
        await self._executor.cancelled()
        self._outcomes.ended(name.operation)
        return Empty()

    async def DeleteOperation(self, request: operations_pb2.DeleteOperationRequest, context: Any) -> Empty:  # noqa: N802
        del context
        name = parse_operation(request.name, "name")
        await self._known(name)
        await self._sweeper.delete(name)
        return Empty()

    async def RetryOperation(  # noqa: N802
        self, request: jobs_pb2.RetryOperationRequest, context: Any
    ) -> operations_pb2.Operation:
        del context
        name = parse_operation(request.name, "name")
        await self._known(name)
        operation = await self._operations.retry(name.tenant, name.operation)
        self._executor.wake()
        return from_operation(operation)


def _is_visible(operation: Operation) -> bool:
    """Whether the caller may read every document of it."""
    identities = reads_as()
    if identities is None:
        return True
    readers = [set(job.fields.get("readers", ())) for job in operation.jobs]
    return all(not each or not each.isdisjoint(identities) for each in readers)
