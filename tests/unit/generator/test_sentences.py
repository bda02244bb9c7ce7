"""Sentences: where they end, what may be quoted, and that their bytes are the passage's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_generator.extractive.sentences import split_sentences

# Pieces whose every combination is a passage: prose, markup, the characters that decide, and characters of one to four bytes.
PIECES = st.sampled_from(
    [
        *(
            "Gannets dive deep. ",
            "Dr. Smith",
            "e.g. ",
            "U.S. ",
            "3.14 ",
            "v1.2.3",
            "https://a.b/c.d?e ",
            "Why? ",
            "... ",
            "…",
            "!",
        ),
        *(
            "\n",
            "\n\n",
            "\r\n",
            "    ",
            "   ",
            "- ",
            "1. ",
            "* ",
            "> ",
            "# ",
            "====\n",
            "----",
            "::\n",
            "```\n",
            "~~~\n",
            ">>> x\n",
        ),
        *(
            ".. note:: x\n",
            ".. code-block:: py\n",
            ":opt: 1\n",
            "| a | b |\n",
            "+--+\n",
            "==== ===\n",
            "é",
            "ü ",
            "潜水。",
            "海鳥は深く潜る",
            "🐦",
        ),
        *(
            "three little words ",
            ", ",
            "; ",
            ": ",
            " — ",
            "(",
            ")",
            '"',
            "”",
            "=",
            "\u00a0",
            "\u2028",
            "\x1c",
            "a",
            "B",
            "7",
        ),
    ]
)
PASSAGES = st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=200)


def texts(passage: str, sentence_bytes_max: int = 600) -> list[str]:
    """The texts of a passage's sentences."""
    return [sentence.text for sentence in split_sentences(passage, sentence_bytes_max=sentence_bytes_max)]


@given(passage=PASSAGES, bytes_max=st.integers(min_value=4, max_value=80))
def test_split_of_any_passage_gives_spans_in_order_that_quote_it(passage, bytes_max):
    """Spans ascend, are disjoint, not blank, at most so long, and hold exactly the bytes that their text says."""
    encoded = passage.encode()
    end = 0
    for sentence in split_sentences(passage, sentence_bytes_max=bytes_max):
        assert end <= sentence.start_byte < sentence.end_byte <= len(encoded)
        assert encoded[sentence.start_byte : sentence.end_byte].decode() == sentence.text
        assert sentence.text == sentence.text.strip()
        assert sentence.end_byte - sentence.start_byte <= bytes_max
        end = sentence.end_byte


@given(words=st.lists(st.sampled_from(["gannets", "dive", "deep", "über", "the", "sea"]), min_size=3, max_size=30))
def test_split_of_plain_words_keeps_every_one(words):
    """A passage without markup and without an end is one sentence."""
    passage = " ".join(words)
    assert texts(passage) == [passage]


@given(words=st.lists(st.sampled_from(["gannets", "diving", "deeply", "überall"]), min_size=30, max_size=60))
def test_split_of_a_long_sentence_cuts_between_words(words):
    """Where no clause ends, a piece ends at white space, and nothing is lost but what is too short to quote."""
    passage = " ".join(words)
    pieces = texts(passage, sentence_bytes_max=64)
    assert len(pieces) > 1
    assert passage.startswith(" ".join(pieces))


@pytest.mark.parametrize(
    "first, second",
    [
        ("Birds, e.g. the gannet, dive deep.", "They come up again."),
        ("That is, i.e. Smith says, a dive.", "It is deep."),
        ("Dr. Smith met Mrs. J. R. Jones there.", "They talked for hours."),
        ("The U.S. Navy counted the birds.", "It took a year."),
        ("They moved to the U.S. The others stayed.", None),
        ("The dive took 3.14 seconds at most.", "It was short."),
        ("Use version 1.2.3 or later.", "Older ones crash."),
        ("See https://example.org/a.b/c.html for details.", "It is long."),
        ("Call os.path.join() to join paths.", "os.sep is put between them."),
        ("It waited ... and then it dived.", "Nobody saw it."),
        ("He asked “Why is that?” and left.", "She stayed at home."),
        ("It dives deep!", "Nobody knows exactly why."),
        ("It began at 9 a.m. and it lasted.", "Then it ended."),
        ("Fig. 3 and no. 7 show the dive.", "They are in colour."),
        ("The shop sells fish, bread etc. and closes early.", "It opens late."),
        ("Smith Inc. owns the boat.", "Jones Ltd. sold it."),
        ("It needs Python 3.11.", "Older ones do not work."),
        ("(It was the first dive.)", "The second came later."),
        ("This is *very deep water.*", "Nothing lives in there."),
    ],
)
def test_split_at_dots_ends_sentences_and_nothing_else(first, second):
    """Abbreviations, decimals, versions, addresses, identifiers, ellipses and quoted questions stay whole."""
    if second is None:
        first, second = first.split(" The ")
        second = f"The {second}"
    assert texts(f"{first} {second}") == [first, second]


def test_split_of_wrapped_lines_keeps_the_line_break_in_the_quote():
    """A sentence that was wrapped is quoted as it stands."""
    assert texts("The gannet\ndives deep. It comes\nback up.") == ["The gannet\ndives deep.", "It comes\nback up."]


def test_split_of_chinese_and_japanese_ends_at_their_full_stop():
    """Text without spaces is split and quoted, too."""
    assert texts("海鳥は深く潜る。魚を捕る鳥である。") == ["海鳥は深く潜る。", "魚を捕る鳥である。"]


def test_split_of_a_list_gives_each_item_without_its_marker():
    """Items are sentences of their own, whether or not they end in a full stop, and lines that go on belong to them."""
    passage = "Rules:\n\n- Never feed the birds\n  from the boat\n* Always carry a radio\n1. Keep well away\n(b) Leave before dark"
    assert texts(passage) == [
        "Never feed the birds\n  from the boat",
        "Always carry a radio",
        "Keep well away",
        "Leave before dark",
    ]


@pytest.mark.parametrize(
    "markup",
    [
        "# All About Diving Gannets",
        "All About Diving Gannets\n========================",
        "************************\nAll About Diving Gannets\n************************",
        "```python\nprint the gannets that dive.\n```",
        "~~~\nprint the gannets that dive.\n~~~",
        "```\nnever closed but still code here.",
        ">>> dive the gannet deep.\nIt prints three words.",
        ".. code-block:: python\n   :linenos:\n\n   dive the gannet deep.",
        ".. a comment that goes on\n   for several indented lines.",
        ".. _a label of some length: https://example.org",
        "| Bird name here | Depth of dive | Source of it |\n|---|---|---|\n| The gannet | is 22 | from Smith |",
        "+---------------+\n| A table cell. |\n+---------------+",
        "===== ======\nThe bird that dives.\n===== ======\nThe gannet is deep.\n===== ======",
        "    result = dive(gannet, depth)\n    return result or raise error",
        "   def dive the gannet(depth here):\n       pass",
        "stmt ::= expression and more words here",
        "Short one.",
        "How deep does a gannet dive?",
        "x = {a: [b, c], d: {e, f}} | g & h;",
    ],
)
def test_split_of_what_cannot_be_quoted_leaves_it_out(markup):
    """Headings, code, literal blocks, directives, tables, fragments and questions give no sentence; what surrounds them does."""
    before, after = "This stands before it.", "This stands after it."
    assert texts(f"{before}\n\n{markup}") == [before]
    if "never closed" not in markup:
        assert texts(f"{before}\n\n{markup}\n\n{after}") == [before, after]


def test_split_sentence_that_code_interrupts_is_not_quoted():
    """Its second half is no sentence; a paragraph after code that begins one is."""
    passage = (
        "The statements ::\n\n   yield x\n\nare equivalent to the expression statement.\n\nIt dives deep into water."
    )
    assert texts(passage) == ["It dives deep into water."]
    assert texts("Like so::\n\n   yield x\n\nIt dives deep into water.") == ["It dives deep into water."]


def test_split_of_a_literal_block_resumes_at_the_dedent():
    """What stands further in after "::" is literal, however much it reads like prose."""
    passage = "Do it like this::\n\n   The gannet dives deep.\n\n     Deeper it goes.\n\nThen it comes up again."
    assert texts(passage) == ["Do it like this::", "Then it comes up again."]


def test_split_of_an_admonition_keeps_its_body():
    """A note is prose, its directive and options are not."""
    passage = (
        ".. note::\n   :class: wide\n\n   The gannet dives deep.\n\n.. versionchanged:: 3.8\n   It dives deeper now."
    )
    assert texts(passage) == ["The gannet dives deep.", "It dives deeper now."]


def test_split_of_an_indented_definition_keeps_the_prose():
    """A description under a signature is prose although it stands in."""
    assert texts("dive(depth)\n\n   Dive to the given depth.\n\n      More is told here.") == [
        "Dive to the given depth.",
        "More is told here.",
    ]


def test_split_of_a_long_sentence_prefers_the_end_of_a_clause():
    """The last clause that ends in the second half of the window ends the piece."""
    passage = "The gannet dives deep into the sea; it stays there for a very long time indeed, and then it comes up"
    assert texts(passage, sentence_bytes_max=60) == [
        "The gannet dives deep into the sea;",
        "it stays there for a very long time indeed,",
        "and then it comes up",
    ]


def test_split_of_a_long_sentence_without_spaces_cuts_between_characters():
    """Three bytes a character, twenty bytes a piece: six characters each, and none is cut in two."""
    assert texts("海鳥は深く潜る鳥である魚", sentence_bytes_max=20) == ["海鳥は深く潜", "る鳥である魚"]


def test_split_of_tokenised_text_ends_at_stops_that_stand_alone():
    """Lower case and short words before the stop do not matter: whoever tokenised the text has told the stop from an abbreviation."""
    text = "gannets dive into the sea . they nest on rock . the u.s. coast has none of them !"
    sentences = [sentence.text for sentence in split_sentences(text, sentence_bytes_max=600)]
    assert sentences == ["gannets dive into the sea .", "they nest on rock .", "the u.s. coast has none of them !"]
