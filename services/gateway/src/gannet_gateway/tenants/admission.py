"""Whether a call may begin, and when: its scope, its tenant's rate, its tenant's turn."""

from collections.abc import Callable

from gannet_gateway.auth import Tenants
from gannet_gateway.tenants.gate import Gate
from gannet_gateway.tenants.quotas import Quotas
from gannet_gateway.tenants.scopes import REQUIRED, Scope, authorize
from gannet_service.call import Principal

# Methods that count as queries, and whether they take a generator's tokens.
_QUERIES = {
    "/gannet.gateway.v1.SearchService/Search": False,
    # One when it is admitted; the servicer charges the others when it has read how many they are.
    "/gannet.gateway.v1.SearchService/BatchSearch": False,
    "/gannet.gateway.v1.AnswerService/Answer": True,
    "/gannet.gateway.v1.AnswerService/StreamAnswer": True,
}


class Admission:
    """Asked once a call, after authentication. Searches and answers have a gate each: an answer may hold its place for a minute."""

    def __init__(self, tenants: Tenants, quotas: Quotas, *, searches: Gate, answers: Gate) -> None:
        self._tenants = tenants
        self._quotas = quotas
        self._searches = searches
        self._answers = answers

    async def admit(self, method: str, principal: Principal) -> Callable[[], None] | None:
        """Let the call begin, at its turn; gives back what to call when it has ended.

        Raises:
            PermissionDenied: the caller lacks the method's scope.
            QuotaExceeded: the tenant has used up its rate.
            Overloaded: too many calls of the tenant wait already.
        """
        authorize(method, principal)
        takes_tokens = _QUERIES.get(method)
        if takes_tokens is None:
            return None
        tenant = await self._tenants.tenant(principal.tenant)
        await self._quotas.admit_query(tenant, tokens=takes_tokens)
        gate = self._answers if REQUIRED[method] is Scope.ANSWER else self._searches
        await gate.enter(tenant.id, tenant.limits.weight or 1.0)
        return gate.leave

    async def charge_searches(self, principal: Principal, amount: int) -> None:
        """Count `amount` more searches of a call that was admitted as one; never refused, but the tenant's next calls wait for them."""
        tenant = await self._tenants.tenant(principal.tenant)
        await self._quotas.charge_queries(tenant, amount)
        self._searches.lengthen(tenant.id, amount, tenant.limits.weight or 1.0)
