"""Breaks of what expands a query: other phrasings, and the languages of the documents."""

from mutation import GATEWAY, Mutation, one

EXPANSION = f"{GATEWAY}/search/expansion.py"
SERVICER = f"{GATEWAY}/search/servicer.py"
INGEST = f"{GATEWAY}/documents/ingest.py"
PHRASINGS = "tests/unit/gateway/test_expansion.py"
LANGUAGES = "tests/unit/gateway/test_languages.py"
RESULTS = "tests/unit/gateway/cache/test_results.py"
RETRIEVER = "tests/unit/gateway/test_retriever.py"

EXPANDING: tuple[Mutation, ...] = (
    one(
        "phrasings are kept for the tenant that asked", PHRASINGS, EXPANSION, '"phrasings1", tenant, ', '"phrasings1", '
    ),
    one("no phrasings are not kept", PHRASINGS, EXPANSION, "keep=bool(texts)", "keep=True"),
    one("what phrasings took is charged", PHRASINGS, EXPANSION, "done.prompt_tokens + ", ""),
    one(
        "a generator that quotes is not asked for phrasings",
        PHRASINGS,
        EXPANSION,
        "next((one for one in found if one.free_text), None)",
        "next(iter(found), None)",
    ),
    one(
        "a reply of phrasings is read to a bound",
        PHRASINGS,
        EXPANSION,
        "                    break\n",
        "                    pass\n",
    ),
    one(
        "lists of phrasings weigh what they are told",
        RETRIEVER,
        f"{GATEWAY}/vectors/retriever.py",
        "weight=weight * fusion.sparse_weight",
        "weight=fusion.sparse_weight",
    ),
    one(
        "a cached reply names the model that phrased its query",
        RESULTS,
        SERVICER,
        "models = (*models, await self._searcher.writer(query.multi_query))",
        "await self._searcher.writer(query.multi_query)",
    ),
    one("a reply is not given again when its time is over", RESULTS, SERVICER, " and last.window == window", ""),
    one(
        "a time to live is part of a reply's key",
        "tests/unit/gateway/cache/test_keys.py",
        f"{GATEWAY}/cache/keys.py",
        "        window,\n",
        "",
    ),
    one(
        "a query is analysed in every language of its documents",
        LANGUAGES,
        f"{GATEWAY}/search/query.py",
        "else collection.languages",
        "else (collection.language,)",
    ),
    one(
        "stop words of one language are left out of all",
        LANGUAGES,
        f"{GATEWAY}/search/terms.py",
        ".union(*(STOP",
        ".union(*() and (STOP",
    ),
    one(
        "queries know of a document's language before readers see it",
        LANGUAGES,
        INGEST,
        'if upload.language not in ("", *collection.languages):',
        "if not upload:",
    ),
    one(
        "terms are not reused for another language",
        LANGUAGES,
        INGEST,
        "claim if reusing else replace(claim, live=None)",
        "claim",
    ),
    one(
        "another language is another document",
        LANGUAGES,
        INGEST,
        "        upload.language or collection.language,\n    ]",
        "        collection.language,\n    ]",
    ),
)
