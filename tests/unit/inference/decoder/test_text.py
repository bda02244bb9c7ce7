"""Tokens to text, piece by piece."""

from fakes.decoder import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from gannet_inference.decoder.text import Detokeniser, StopStrings

BYTES = byte_tokenizer()
STOP = st.text("ab", min_size=1, max_size=4)


def sentencepiece() -> Tokenizer:
    """Llama's decoder: a leading space is the text's own beginning and no part of it."""
    words = ["▁one", "▁two", "▁", "s", "<0xE2>", "<0x82>", "<0xAC>", "<unk>"]
    tokenizer = Tokenizer(
        models.BPE({word: place for place, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True)  # noqa: S106 - a vocabulary entry
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


@given(text=st.text(max_size=30))
def test_detokeniser_any_text_comes_whole_and_never_in_half_characters(text):
    """Piece by piece it is the text, and no piece shows a character that the text does not have."""
    detokeniser = Detokeniser(BYTES)

    pieces = [detokeniser.add(token) for token in BYTES.encode(text).ids]

    assert "".join(pieces) == text


@given(tokens=st.lists(st.sampled_from([0, 1, 2, 3]), max_size=20))
def test_detokeniser_sentencepiece_tokens_give_what_they_give_at_once(tokens):
    """Spaces between words stay, the one before the first goes."""
    tokenizer = sentencepiece()
    detokeniser = Detokeniser(tokenizer)

    assert "".join(map(detokeniser.add, tokens)) == tokenizer.decode(tokens)


def test_detokeniser_byte_fallback_waits_for_the_character():
    """Three bytes, one euro."""
    detokeniser = Detokeniser(sentencepiece())

    assert [detokeniser.add(token) for token in (0, 4, 5, 6, 3)] == ["one", "", "", "€", "s"]


def test_detokeniser_bytes_that_are_no_text_are_not_held_for_ever():
    """A model that says nonsense is shown to: nothing grows without bound."""
    detokeniser = Detokeniser(BYTES)
    broken = BYTES.encode("é").ids[1]

    pieces = [detokeniser.add(broken) for _ in range(100)]

    assert set("".join(pieces)) == {"�"}
    assert len(detokeniser._ids) < 20


def test_detokeniser_special_tokens_have_no_text():
    """Nor do ids that the tokenizer does not know, of vocabularies padded to a round number."""
    detokeniser = Detokeniser(BYTES)

    assert "".join(detokeniser.add(token) for token in [256] * 20 + [299, *BYTES.encode("so").ids]) == "so"


@given(pieces=st.lists(st.text("ab", max_size=3), max_size=12), stops=st.lists(STOP, max_size=3))
def test_stop_strings_any_pieces_end_where_the_whole_text_does(pieces, stops):
    """Cut in whatever pieces, the text ends before the earliest stop string that is complete first, and nothing of it is told."""
    strings = StopStrings(tuple(stops))
    told, whole, stopped = "", "", False
    for piece in pieces:
        whole += piece
        new, stopped = strings.add(piece)
        told += new
        assert whole.startswith(told)
        if stopped:
            break
    told += strings.flush()

    found = [place for stop in stops if (place := whole.find(stop)) >= 0]
    assert stopped == bool(found)
    assert told == (whole[: min(found)] if found else whole)
