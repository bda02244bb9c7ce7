"""BM25 vectors: words, stems, ids and weights."""

import collections
import re
import threading

import numpy as np
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st
from reference import bm25 as reference

from gannet_lexical import sparse
from gannet_lexical.sparse import LANGUAGES, Bm25Encoder, fold, term_id
from gannet_lexical.stopwords import STOP_WORDS

ENCODER = Bm25Encoder()
ENCODERS = {"en": ENCODER, "hr": Bm25Encoder("hr")}


def _weights(vector):
    return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))


@given(words=st.lists(st.sampled_from(["cat", "Cats", "index", "indexes", "the", "of", "join", "x9"]), max_size=40))
def test_passage_known_words_follow_the_formula(words):
    """Words that share a stem share a term, stop words count for nothing, and weights are BM25's."""
    stems = {"cat": "cat", "Cats": "cat", "index": "index", "indexes": "index", "join": "join", "x9": "x9"}
    terms = [term_id(stems[word]) if word in stems else 0 for word in words]

    vector = ENCODER.passage(" ".join(words), 20.0)

    expected = reference.weigh_terms(terms, sparse.K1, sparse.B, 20.0)
    assert _weights(vector) == pytest.approx(expected, rel=1e-6)


@given(text=st.text(max_size=80))
def test_passage_any_text_gives_ascending_indices_and_positive_weights(text):
    """Whatever the text, the vector is one that an index accepts."""
    vector = ENCODER.passage(text)

    assert (np.diff(vector.indices.astype(np.int64)) > 0).all()
    assert (vector.values > 0).all()
    assert (vector.indices > 0).all()
    assert (vector.indices.dtype, vector.values.dtype) == (np.uint32, np.float32)


def test_query_repeated_word_weighs_its_count():
    """A query's weight is the term's frequency in it."""
    assert _weights(ENCODER.query("Join the joins, cat")) == {term_id("join"): 2.0, term_id("cat"): 1.0}


@pytest.mark.parametrize("text", ["", "  ", "the of and", "…—“”", "\ud800"])
def test_passage_without_terms_is_empty(text):
    """A text of stop words or punctuation has no terms, and that is no error."""
    assert _weights(ENCODER.passage(text)) == {}


@pytest.mark.parametrize(
    "text,words",
    [
        ("os.path.join", ["os", "path", "join"]),
        ("snake_case", ["snake", "case"]),
        ("Café CAFÉ cafe", ["cafe", "cafe", "cafe"]),
        ("naïve—“quoted”", ["naiv", "quot"]),
        ("ﬁle ２０２６", ["file", "2026"]),
        ("東京 カナ", ["東", "京", "カ", "ナ"]),
        ("Straße", ["strass"]),
        ("한국어 हिन्दी", ["한국어", "हिन्दी"]),
    ],
)
def test_query_text_is_split_into_the_expected_words(text, words):
    """Identifiers split at dots and underscores; accents, case, width and curly punctuation do not matter."""
    expected = collections.Counter(term_id(word) for word in words)

    assert _weights(ENCODER.query(text)) == dict(expected)


def test_term_id_is_what_indexes_already_hold():
    """The hash is part of the stored format: it must never change."""
    assert [term_id(stem) for stem in ("", "join", "python", "東")] == [1339080641, 1757144039, 3159187794, 1193751356]


def test_encoder_full_table_starts_over_with_equal_answers(monkeypatch):
    """The bounded memory of words forgets, and answers the same."""
    monkeypatch.setattr(sparse, "_TABLE_SLOTS", 8)
    small = Bm25Encoder()
    text = " ".join(f"word{number} cats" for number in range(50))

    for _ in range(2):
        assert _weights(small.passage(text)) == _weights(ENCODER.passage(text))
    assert small._used <= 4


def test_encoder_used_from_several_threads_gives_equal_answers(monkeypatch):
    """Threads share the memory of words without harm."""
    monkeypatch.setattr(sparse, "_TABLE_SLOTS", 64)
    shared = Bm25Encoder()
    texts = [" ".join(f"w{number}" for number in range(start, start + 40)) for start in range(60)]
    answers: dict[int, dict[int, float]] = {}

    def encode(first: int) -> None:
        for place in range(first, len(texts), 3):
            answers[place] = _weights(shared.passage(texts[place]))

    threads = [threading.Thread(target=encode, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {place: _weights(ENCODER.passage(text)) for place, text in enumerate(texts)}


def test_encoder_every_language_stems():
    """Every language that is offered has a stemmer; German's folds a plural."""
    for language in LANGUAGES:
        assert Bm25Encoder(language).query("token").values.size == 1
    german = Bm25Encoder("de")
    assert _weights(german.query("Häuser")) == _weights(german.query("hauser"))


def test_encoder_unknown_language_is_refused():
    """The refusal lists what there is."""
    with pytest.raises(ValueError, match=r"'xx' is not one of ar, .*, yi"):
        Bm25Encoder("xx")


def test_encoder_encoded_blob_is_one_bounded_word():
    """A megabyte without a space is one term, not stemmed."""
    assert ENCODER.passage("a" * 1_000_000).indices.size == 1


def test_stop_words_are_lower_case_ascii_words():
    """The scanner could never produce anything else, so anything else would be dead."""
    assert all(
        word.isascii() and word.isalnum() and word == word.lower() for words in STOP_WORDS.values() for word in words
    )


@given(text=st.text(max_size=60))
def test_fold_twice_changes_nothing_more(text):
    """Folding is idempotent up to spaces, so stored and asked text meet."""
    once = fold(text)

    assert fold(once).split() == once.split()


# ---- Croatian -----------------------------------------------------------------------------------------------------

# Snowball writes "ije" as "e" before it stems, and "dj" as "đ".
CROATIAN = st.text(alphabet="abcčćdđefghijklmnoprsštuvzžČĆĐŠŽ ", max_size=60)
TYPED_WITHOUT_CARONS = str.maketrans("čćđšžČĆĐŠŽ", "ccdszCCDSZ")


def naive_terms(language, text):
    """Fold each word, drop stop words, stem, and write đ as d: the analysis in four plain lines."""
    snowball = Stemmer.Stemmer({"hr": "serbian", "en": "english"}[language])
    words = re.findall("[a-z0-9]+", text.lower().translate(TYPED_WITHOUT_CARONS))
    kept = [word for word in words if word not in STOP_WORDS[language]]
    return [term_id(snowball.stemWord(word).replace("đ", "d")) for word in kept]


@pytest.mark.parametrize("language", ["hr", "en"])
@given(text=CROATIAN)
def test_query_and_passage_use_the_naive_analysis(language, text):
    """A query's terms and a passage's are the same, and are what the plain reading of the rules gives."""
    encoder = ENCODERS[language]
    terms = naive_terms(language, text)

    assert _weights(encoder.query(text)) == reference.count_terms(terms)
    assert _weights(encoder.passage(text, 20.0)) == pytest.approx(
        reference.weigh_terms(terms, sparse.K1, sparse.B, 20.0), rel=1e-6
    )


@given(text=CROATIAN)
def test_query_typed_without_carons_finds_the_same_terms(text):
    """Keyboards without č, ć, đ, š and ž search as well as those with them."""
    plain = text.translate(TYPED_WITHOUT_CARONS)

    assert _weights(ENCODERS["hr"].query(plain)) == _weights(ENCODERS["hr"].query(text))


@pytest.mark.parametrize(
    "one, other",
    [
        ("čokolade", "cokoladom"),
        ("Sljeme čokolada", "sljeme cokolada"),
        ("međed", "medjed"),
        ("gradovima", "gradovi"),
        ("SVEUČILIŠTU", "sveuciliste"),
        ("nadležnoga tijela za zaštitu", "nadlezni tijelo zastita"),
    ],
)
def test_query_croatian_forms_of_a_word_meet(one, other):
    """Case endings, carons and the two spellings of đ do not matter, function words count for nothing."""
    assert _weights(ENCODERS["hr"].query(one)) == _weights(ENCODERS["hr"].query(other))
