"""Cutting at either side, windows over a long passage, and where tokens stand in a text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import tiny_model

from gannet_inference.tokens import TextTokenizer

TOKENS_MAX = 12
WORDS = tiny_model.WORDS[4:]


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    """Ten words, at most twelve tokens."""
    return TextTokenizer(tiny_model.tokenizer(), tokens_max=TOKENS_MAX)


def words(ids) -> list[str]:
    """The words that ids stand for."""
    return [tiny_model.WORDS[number] for number in ids]


def test_tokenizer_long_text_loses_the_side_that_is_named(tokenizer):
    """Ten of fifteen words are kept, the first or the last, between the special tokens."""
    text = " ".join(["one"] * 10 + ["six"] * 5)

    (end,), (start,) = tokenizer.encode([text], "end"), tokenizer.encode([text], "start")

    assert words(end.ids) == ["[CLS]", *["one"] * 10, "[SEP]"]
    assert words(start.ids) == ["[CLS]", *["one"] * 5, *["six"] * 5, "[SEP]"]
    assert end.truncated
    assert start.truncated


@given(
    query=st.lists(st.sampled_from(WORDS), max_size=3),
    passage=st.lists(st.sampled_from(WORDS), max_size=60),
    windows_max=st.integers(1, 9),
)
def test_windows_of_any_passage_cover_it_in_order_up_to_their_number(query, passage, windows_max):
    """Each window is the query and a stretch of the passage; together they hold it from its start, and say so if not to its end."""
    tokenizer = TextTokenizer(tiny_model.tokenizer(), tokens_max=TOKENS_MAX)
    windows = tokenizer.windows(" ".join(query), " ".join(passage), windows_max)

    room = TOKENS_MAX - 3 - len(query)
    head = ["[CLS]", *query, "[SEP]"]
    step = room - room // 4
    covered = 0
    for number, window in enumerate(windows):
        stretch = passage[number * step : number * step + room]
        assert words(window.ids) == [*head, *stretch, "[SEP]"]
        assert window.type_ids.tolist() == [0] * len(head) + [1] * (len(stretch) + 1)
        covered = number * step + len(stretch)
    assert len(windows) <= windows_max
    assert [window.truncated for window in windows] == [False] * (len(windows) - 1) + [covered < len(passage)]
    if len(windows) < windows_max:
        assert covered == len(passage)


def test_windows_behind_a_query_of_half_the_input_are_one_cut_pair(tokenizer):
    """Where the query leaves no room, the pair is cut as `encode` cuts it."""
    pair = ("one " * 5, "six " * 30)

    (window,) = tokenizer.windows(*pair, 8)

    (cut,) = tokenizer.encode([pair])
    np.testing.assert_array_equal(window.ids, cut.ids)
    assert window.truncated


@given(
    parts=st.lists(st.sampled_from([*WORDS, "é", "日本", "𝔊", "?", " ", "  "]), max_size=20),
    prompt=st.sampled_from(["", "one é "]),
)
def test_pieces_of_any_text_stand_where_their_bytes_are(parts, prompt):
    """A token's bytes, cut from the text's UTF-8, are the word; prompts and special tokens take no place."""
    tokenizer = TextTokenizer(tiny_model.tokenizer(), tokens_max=TOKENS_MAX)
    text = " ".join(parts)
    (pieces,) = tokenizer.pieces([text], prompt=prompt)

    spans = [text.encode()[start:end].decode() for start, end in zip(pieces.starts, pieces.ends, strict=True)]
    known = [(word, span) for word, span in zip(pieces.tokens, spans, strict=True) if span and word in WORDS]
    assert all(word == span for word, span in known)
    assert [word for word, _ in known] == [part for part in parts if part in WORDS]
    assert [spans[0], spans[-1]] == ["", ""]
    assert pieces.special == [True, *[False] * (len(spans) - 2), True]
    assert "".join(spans) == "".join(text.split())


def test_pieces_without_special_tokens_are_the_text_alone_and_uncut(tokenizer):
    """No limit applies, and nothing is added."""
    (pieces,) = tokenizer.pieces(["one " * 50], special=False)

    assert pieces.tokens == ["one"] * 50


def test_decode_of_ids_gives_their_words_and_leaves_unknown_ids_out(tokenizer):
    """An id outside of the vocabulary is nothing."""
    assert tokenizer.decode([4, 5, 4_000_000_000, 6], skip_special=True) == "one two three"
