"""Breaks of where sentences end, what they are attributed to, and who answers them."""

from mutation import GATEWAY, one

SENTENCES = "libs/lexical/src/gannet_lexical/sentences.py"
SPLIT = "tests/unit/lexical/test_sentences.py"
QUESTIONS = "tests/unit/gateway/test_questions.py"
CITED = "tests/unit/gateway/test_cited_documents.py"
WRITTEN = "tests/unit/gateway/test_writing.py"

ATTRIBUTING = (
    one("sentences: an ordinal ends none", SPLIT, SENTENCES, "_ORDINAL.fullmatch(word):", "False:"),
    one("sentences: code holds no end", SPLIT, SENTENCES, "not _is_within(found, codes) and ", ""),
    one("sentences: a quoted question goes on", SPLIT, SENTENCES, "following.islower() and mark[-1] in _CLOSERS", "False"),
    one('sentences: "and others" may end one', SPLIT, SENTENCES, "belongs_to_next and not and_others", "belongs_to_next"),
    one("sentences: nothing but white space is left out", SPLIT, SENTENCES, "yield start, last_end", "yield start, last_end - 1"),
    one(
        "a citation counts in the document, whatever document it is",
        CITED,
        f"{GATEWAY}/answers/transcript.py",
        "start_byte=candidate.start_byte + start",
        "start_byte=start",
    ),
    one(
        "every sentence of a free text is cited or flagged",
        CITED,
        f"{GATEWAY}/answers/attribution.py",
        "                unsupported.append(sentence)\n",
        "                pass\n",
    ),
    one("a sentence has few citations", WRITTEN, f"{GATEWAY}/answers/attribution.py", "spans[:SPANS_MAX]", "spans"),
    one("an answer may be stale if its caller says so", QUESTIONS, f"{GATEWAY}/answers/questions.py", ", asked.staleness_s_max)", ")"),
    one(
        "a new version of a prompt is read",
        "tests/unit/gateway/cache/test_prompts.py",
        f"{GATEWAY}/cache/prompts.py",
        " and known.version == version",
        "",
    ),
    one(
        "a chain that was changed has another etag",
        "tests/unit/gateway/test_ledger.py",
        f"{GATEWAY}/ledger/records.py",
        " {self.generators}",
        "",
    ),
    one(
        "an upstream that is there is not the default",
        "tests/unit/generator/test_opening.py",
        "services/generator/src/gannet_generator/opening.py",
        "{default: generators[default]} | generators",
        "dict(reversed(generators.items()))",
    ),
)  # fmt: skip
