import pytest
from google.protobuf import descriptor_pool

from gannet_gateway.__main__ import SERVICES
from gannet_gateway.tenants.scopes import EVERY_SCOPE, REQUIRED, Scope, authorize, known
from gannet_service.call import Principal
from gannet_service.errors import PermissionDenied


def caller(*scopes: Scope) -> Principal:
    """A caller with these scopes."""
    return Principal(tenant="acme", credential="k", scopes=frozenset(scopes))


def test_every_method_that_is_served_has_its_scope():
    """One that somebody forgets is refused to everybody; one that is gone does not linger."""
    pool = descriptor_pool.Default()
    served = {f"/{service}/{method.name}" for service in SERVICES for method in pool.FindServiceByName(service).methods}
    assert set(REQUIRED) == served


@pytest.mark.parametrize("method", sorted(REQUIRED))
def test_method_needs_its_scope_and_no_other(method: str):
    """A caller with every other scope is told which one is missing."""
    authorize(method, caller(REQUIRED[method]))
    with pytest.raises(PermissionDenied) as caught:
        authorize(method, caller(*(EVERY_SCOPE - {REQUIRED[method]})))
    assert caught.value.reason == "SCOPE_MISSING"
    assert f"'{REQUIRED[method]}'" in caught.value.message


def test_method_without_a_scope_is_denied():
    """Whatever the caller may do."""
    with pytest.raises(PermissionDenied) as caught:
        authorize("/gannet.gateway.v1.SearchService/Forgotten", caller(*EVERY_SCOPE))
    assert caught.value.reason == "METHOD_UNKNOWN"


def test_scopes_of_other_services_are_passed_over():
    """A token may carry them."""
    assert known(["openid", "search", "documents.read", "SEARCH"]) == {Scope.SEARCH, Scope.DOCUMENTS_READ}
