"""Documents in several languages in one collection, and queries that find them all."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.fakes import COLLECTION, FakeEmbedder, FakeIndex, collection_record
from unit.gateway.ingestion import NAME, RECORD, MakeIngestion, content_of, upload

from gannet.gateway.v1 import documents_pb2, search_pb2
from gannet_gateway.clients import TextVectors
from gannet_gateway.config import GatewayConfig
from gannet_gateway.documents import acceptance, wire
from gannet_gateway.ledger.ledger import LANGUAGES_MAX, Ledger
from gannet_gateway.names import CollectionName
from gannet_gateway.parsing.parser import Held
from gannet_gateway.search.query import Options, Query
from gannet_gateway.search.terms import QueryTerms
from gannet_gateway.search.wire import to_options
from gannet_gateway.vectors.points import Sparse
from gannet_lexical.sparse import LANGUAGES, Bm25Encoder, term_id
from gannet_service.errors import InvalidInput, NotFound

TERMS = QueryTerms()


def weights(vector: Sparse) -> dict[int, float]:
    """A vector as a dictionary."""
    return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))


class Linguist(FakeEmbedder):
    """Notes the language of every request, and encodes words in it."""

    def __init__(self) -> None:
        super().__init__()
        self.languages: list[str] = []

    async def passages(self, texts: Sequence[str], *, language: str = "", **options: object) -> list[TextVectors]:
        """One vector a text, with real terms."""
        if texts:
            self.languages.append(language)
        made = await super().passages(texts, **options)
        encoded = [Bm25Encoder(language).passage(text) for text in texts]
        return [
            TextVectors(
                dense=one.dense, sparse=Sparse(indices=terms.indices, values=terms.values), truncated=one.truncated
            )
            for one, terms in zip(made, encoded, strict=True)
        ]


# ---- queries ------------------------------------------------------------------------------------------------------


def test_query_in_two_languages_has_the_stems_of_both():
    """A passage of either language finds its own among them, weighed as it would be alone."""
    found = weights(TERMS.of("zakonima generators", ("en", "hr")))
    for language in ("en", "hr"):
        passage = Bm25Encoder(language).query("zakonima generators")
        for term, count in weights(Sparse(indices=passage.indices, values=passage.values)).items():
            assert found[term] == count


def test_query_word_with_one_stem_in_both_languages_counts_once():
    """Languages that agree on a word do not weigh it twice."""
    assert weights(TERMS.of("qdrant qdrant", ("en", "hr"))) == {term_id("qdrant"): 2.0}


def test_query_in_two_languages_leaves_out_the_stop_words_of_either():
    """What is a function word in one would be a rare name in the other."""
    assert weights(TERMS.of("the je with", ("en", "hr"))) == {}
    assert weights(TERMS.of("je", ("en",))) != {}


@given(st.text(max_size=60), st.sampled_from(["en", "hr", "de"]))
def test_query_in_one_language_is_what_its_encoder_says(text: str, language: str):
    """However many others were asked for before."""
    expected = Bm25Encoder(language).query(text)
    found = TERMS.of(text, (language,))
    assert (found.indices.tolist(), found.values.tolist()) == (expected.indices.tolist(), expected.values.tolist())


@given(st.text(max_size=60))
def test_query_in_several_languages_is_a_vector_that_an_index_takes(text: str):
    """Ascending indices, positive values."""
    found = TERMS.of(text, ("en", "hr", "de"))
    assert (np.diff(found.indices.astype(np.int64)) > 0).all()
    assert (found.values > 0).all()
    assert (found.indices.dtype, found.values.dtype) == (np.uint32, np.float32)


def test_query_language_is_the_callers_or_all_of_the_collections():
    """In the order of the collection, its own first."""
    record = collection_record(document_languages=("hr", "de"))
    asked = [
        Query.of("q", Options(language=language), record, GatewayConfig(), top_k_default=10).languages
        for language in ("", "hr", "fr")
    ]
    assert asked == [("en", "hr", "de"), ("hr",), ("fr",)]


@pytest.mark.parametrize("language", ["xx", "english", "EN", "hr-HR"])
def test_language_without_a_stemmer_is_refused(language: str):
    """Of a query and of a document, by the field's name."""
    with pytest.raises(InvalidInput) as query:
        to_options(search_pb2.SearchOptions(language=language), prefix="options", top_k_max=10, filter_bytes_max=100)
    header = documents_pb2.UploadDocumentsRequest(start={"document_id": "a", "language": language})
    start = wire.to_message(header, COLLECTION)
    with pytest.raises(InvalidInput) as document:
        start.make(Held(b"x"))  # pyright: ignore[reportAttributeAccessIssue] - it is a Start
    assert (query.value.field, document.value.field) == ("options.language", "language")


# ---- documents ----------------------------------------------------------------------------------------------------


async def test_ledger_keeps_the_languages_that_documents_name(ledger: Ledger):
    """Each once, in order, beside the collection's own; adding one that is there changes nothing."""
    for language in ("hr", "en", "de", "hr"):
        await ledger.add_language(COLLECTION, language)
    assert (await ledger.collection_settings(COLLECTION)).languages == ("en", "hr", "de")


async def test_ledger_of_languages_that_are_named_at_once_keeps_all(ledger: Ledger):
    """Nobody's is overwritten by another's."""
    named = ("hr", "de", "fr", "it")
    await asyncio.gather(*(ledger.add_language(COLLECTION, language) for language in named))
    assert sorted((await ledger.collection_settings(COLLECTION)).languages) == sorted(("en", *named))


async def test_ledger_refuses_one_language_too_many(ledger: Ledger):
    """By the document's field, with those that there are; and a collection that is not there is not found."""
    others = [language for language in LANGUAGES if language != "en"]
    for language in others[: LANGUAGES_MAX - 1]:
        await ledger.add_language(COLLECTION, language)
    with pytest.raises(InvalidInput, match="no other") as caught:
        await ledger.add_language(COLLECTION, others[LANGUAGES_MAX])
    assert caught.value.field == "language"
    await ledger.add_language(COLLECTION, others[0])
    with pytest.raises(NotFound):
        await ledger.add_language(CollectionName("acme", "none"), "hr")


async def test_document_of_another_language_is_indexed_in_it(
    make_ingestion: MakeIngestion, ledger: Ledger, index: FakeIndex
):
    """Its terms are that language's, its record names it, and the collection's queries know of it before readers see it."""
    linguist = Linguist()
    ingestion = make_ingestion(embedder=linguist)
    seen_at_upsert: list[tuple[str, ...]] = []
    upsert = index.upsert

    async def noting(*arguments: Any) -> None:
        seen_at_upsert.append((await ledger.collection_settings(COLLECTION)).languages)
        await upsert(*arguments)

    index.upsert = noting  # pyright: ignore[reportAttributeAccessIssue] - looks on
    indexed = await ingestion.ingester.index(RECORD, upload("Zakonima.", language="hr"))
    assert (linguist.languages, indexed.document.language) == (["hr"], "hr")
    assert (await ledger.document(NAME)).language == "hr"
    assert seen_at_upsert == [("en", "hr")]
    (point,) = index.points.values()
    assert weights(point.sparse).keys() == weights(TERMS.of("zakonima", ("hr",))).keys()
    await ingestion.publisher.close()


async def test_document_that_names_its_collections_language_is_the_same_document(make_ingestion: MakeIngestion):
    """Nothing is indexed again, and nothing is noted."""
    ingestion = make_ingestion(embedder=Linguist())
    await ingestion.ingester.index(RECORD, upload())
    again = await ingestion.ingester.index(RECORD, upload(language="en"))
    assert (again.unchanged, again.document.language) == (True, "")
    await ingestion.publisher.close()


async def test_document_in_another_language_than_before_is_weighed_anew(
    make_ingestion: MakeIngestion, index: FakeIndex, ledger: Ledger
):
    """The same text has other stems; and a rollback brings the old ones back with the old language."""
    linguist = Linguist()
    ingestion = make_ingestion(embedder=linguist)
    await ingestion.ingester.index(RECORD, upload("Zakonima."))
    second = await ingestion.ingester.index(RECORD, upload("Zakonima.", language="hr"))
    assert (second.unchanged, linguist.languages) == (False, ["en", "hr"])
    collection = await ledger.collection_settings(COLLECTION)
    restored = await ingestion.ingester.rollback(collection, NAME, 1, "")
    assert (restored.language, linguist.languages) == ("", ["en", "hr", "en"])
    terms = {point.revision: weights(point.sparse).keys() for point in index.points.values()}
    assert terms[3] == terms[1] != terms[2]
    await ingestion.publisher.close()


def test_request_without_a_language_keeps_the_digest_that_it_had_before_there_was_one():
    """What was sent before an upgrade may be sent again after it; a language is part of the request."""
    plain, named = upload(), upload(language="hr")
    assert content_of(plain) == content_of(named)
    assert "language" not in acceptance._fields(plain)
    assert acceptance._fields(named)["language"] == "hr"
    assert acceptance._digest([plain]) != acceptance._digest([named])
