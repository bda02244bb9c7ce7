import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_gateway.names import (
    CollectionName,
    DocumentName,
    check_document_id,
    parse_collection,
    parse_document,
    parse_tenant,
)
from gannet_gateway.paging import PAGE_SIZE_MAX, page_size, read_token, write_token
from gannet_service.errors import InvalidInput, PermissionDenied

COLLECTION_IDS = st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


def _valid_document_id(value: str) -> bool:
    try:
        check_document_id(value, "name")
    except InvalidInput:
        return False
    return True


DOCUMENT_IDS = st.text(st.sampled_from("aé/.-_ documentschunks😀"), min_size=1, max_size=40).filter(_valid_document_id)


@given(COLLECTION_IDS, DOCUMENT_IDS)
def test_parse_document_of_a_name_returns_its_parts(collection: str, document: str):
    """Whatever may be an id can be parsed back, "-" standing for the caller's tenant."""
    name = DocumentName("acme", collection, document)
    assert parse_document(str(name), "name") == name
    assert parse_document(f"tenants/-/collections/{collection}/documents/{document}", "name") == name
    assert parse_collection(str(name.parent), "parent") == CollectionName("acme", collection)


@pytest.mark.parametrize(
    "name",
    ["", "docs", "tenants/acme", "tenants/acme/collections", "tenants/acme/collections/", "tenants/acme/collections/A",
     "tenants/acme/collections/a-", "tenants/acme/collections/-a", "tenants/acme/collections/" + "a" * 64,
     "tenants/acme/collections/a/documents/b", "x/acme/collections/a", "tenants/acme/x/a", "/tenants/acme/collections/a",
     "tenants/acme/collections/a\n"],
)  # fmt: skip
def test_parse_collection_of_another_form_is_refused(name: str):
    """The field is named."""
    with pytest.raises(InvalidInput) as caught:
        parse_collection(name, "parent")
    assert caught.value.field == "parent"


@pytest.mark.parametrize("document", ["", "a" * 513, "é" * 257, "a\x00", "a\nb", " a", "a ", "/a", "a/", "a/documents/b",
                                      "a/chunks/1", "a\u202eb"])  # fmt: skip
def test_check_document_id_of_another_form_is_refused(document: str):
    """Length counts bytes; nothing invisible; nothing that reads as another resource's name."""
    with pytest.raises(InvalidInput):
        check_document_id(document, "document_id")


@pytest.mark.parametrize("tenant", ["other", "", "ACME", "acme "])
def test_parse_of_another_tenant_is_denied(tenant: str):
    """Whether or not it exists: only the caller's own name, or "-", is a tenant."""
    for parse, name in (
        (parse_tenant, f"tenants/{tenant}"),
        (parse_collection, f"tenants/{tenant}/collections/docs"),
        (parse_document, f"tenants/{tenant}/collections/docs/documents/a"),
    ):
        with pytest.raises(PermissionDenied):
            parse(name, "name")


@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_read_token_of_a_written_one_returns_its_place(scope: str, after: str):
    """For the same list; the token of another list is refused."""
    token = write_token(scope, after)
    assert read_token(scope, token) == after
    with pytest.raises(InvalidInput) as caught:
        read_token(scope + "x", token)
    assert caught.value.field == "page_token"


@given(st.text(min_size=1, max_size=40))
def test_read_token_of_anything_else_is_refused(token: str):
    """Nothing but a complaint about the field."""
    with pytest.raises(InvalidInput) as caught:
        read_token("scope", token)
    assert caught.value.field == "page_token"


def test_token_at_the_end_is_empty():
    """And an empty token begins at the beginning."""
    assert write_token("scope", None) == ""
    assert read_token("scope", "") == ""


def test_page_size_is_bounded():
    """0 means the default; more than the limit is refused, and the limit named."""
    assert (page_size(0), page_size(1), page_size(PAGE_SIZE_MAX)) == (100, 1, PAGE_SIZE_MAX)
    with pytest.raises(InvalidInput, match="page_size: 1001; the limit is 1000"):
        page_size(1001)
