"""Throws away what ended jobs leave behind: uploaded bytes at once, records after a time."""

import time
from collections.abc import Sequence

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.ledger.job import Job
from gannet_gateway.ledger.operations import Operations
from gannet_gateway.names import OperationName
from gannet_service.errors import Conflict

STRAY_S = 86_400.0
STRAYS_MAX = 500


class Sweeper:
    """`kept_s`: how long ended operations can be looked at, and failed ones retried."""

    def __init__(self, operations: Operations, blobs: Blobs, *, kept_s: float) -> None:
        self._operations = operations
        self._blobs = blobs
        self._kept_s = kept_s

    async def delete(self, name: OperationName) -> None:
        """Forget an operation that is done, uploads and all; raises NotFound, Conflict."""
        operation = await self._operations.get(name.tenant, name.operation)
        if not operation.done:
            raise Conflict(f"{name} has not ended; cancel it first", field="name", reason="OPERATION_RUNNING")
        await self._forget(operation.jobs)

    async def sweep(self) -> None:
        """Delete the uploads of what has succeeded, then what ended long ago.

        Raises:
            GannetError: a store does not answer; try again later.
        """
        while gone := await self._operations.uploads_to_delete():
            for job in gone:
                await self._blobs.delete_upload(job.blob)
            await self._operations.uploads_deleted(gone)
        while gone := await self._operations.expired(kept_s=self._kept_s):
            await self._forget(gone)

    async def sweep_strays(self) -> None:
        """Delete uploads that nobody has touched for a day and no job names: their gateway died before it accepted them."""
        strays: list[str] = []
        async for key in self._blobs.uploads_before(time.time() - STRAY_S):
            strays.append(key)
            if len(strays) == STRAYS_MAX:
                await self._delete_strays(strays)
                strays = []
        await self._delete_strays(strays)

    async def _delete_strays(self, keys: Sequence[str]) -> None:
        for key in await self._operations.without_job(keys):
            await self._blobs.delete_upload(key)

    async def _forget(self, gone: Sequence[Job]) -> None:
        for job in gone:
            if job.blob:
                await self._blobs.delete_upload(job.blob)
        await self._operations.forget(gone)
