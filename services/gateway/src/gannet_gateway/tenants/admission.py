"""Whether a call may begin: its scope."""

from gannet_gateway.tenants.scopes import authorize
from gannet_service.call import Principal


class Admission:
    """Asked once a call, after authentication."""

    async def admit(self, method: str, principal: Principal) -> None:
        """Let the call begin.

        Raises:
            PermissionDenied: the caller lacks the method's scope.
        """
        authorize(method, principal)
