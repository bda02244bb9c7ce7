"""Where sentences end: spans tile any text, and abbreviations, numbers, code, quotes and brackets do not deceive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_lexical.sentences import sentence_spans

# Whatever decides about an end, in any order.
PIECES = st.sampled_from(
    [
        *(
            "Dr",
            "e.g",
            "U.S",
            "J",
            "3",
            "1998",
            "XIV",
            "npr",
            "br",
            "Fig",
            "i",
            "dr",
            "The",
            "the",
            "Gannets",
            "dive",
            "siječnja",
        ),
        *(
            ".",
            ". ",
            "...",
            "…",
            "! ",
            "? ",
            "。",
            "。」",
            " . . . ",
            ".\n",
            ".[1] ",
            ".¹ ",
            "।",
            " ",
            "\n",
            "\u00a0",
            "\u2028",
            "\x1c",
        ),
        *(
            "`",
            "``",
            "(",
            ")",
            '"',
            "“",
            "”",
            "„",
            "»",
            "[",
            "]",
            "*",
            ":",
            "https://a.b/c.",
            "é",
            "潜水",
            "🐦",
            "\u0301",
        ),
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=120)


@given(text=TEXTS, data=st.data())
def test_spans_of_any_paragraph_tile_it(text: str, data: st.DataObject):
    """They ascend, are not blank, and leave out nothing but white space; what stands outside of the paragraph changes nothing."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    at = start
    for span_start, span_end in sentence_spans(text, start, end):
        assert at <= span_start < span_end <= end
        assert not text[at:span_start].strip()
        assert text[span_start:span_end] == text[span_start:span_end].strip()
        at = span_end
    assert not text[at:end].strip()
    assert [(a - start, b - start) for a, b in sentence_spans(text, start, end)] == list(
        sentence_spans(text[start:end])
    )


# One sentence a line; a blank line ends a text.
CASES = """
Dr. Smith met Mrs. J. R. Jones and Prof. dr. sc. Ivan Horvat there.
They talked for hours.

Sea birds, e.g. the gannet, i.e. Morus bassanus, dive deep (cf. Nelson 1978).
See Fig. 3, Figs. 4 and 5, no. 7, Vol. II and pp. 12 to 15.
It is in colour.

The U.S. Navy and the U.K. Parliament agreed at 9 a.m. on Jan. 5 in Washington, D.C.
The others did not.

She has a Ph.D. in zoology.
Her brother works for Smith Inc. in St. Louis.
Jones Ltd. sold the boat in approx. 3 days.

J. S. Bach wrote it, and George W. Bush heard it.
The bird of Plan B. dives.

Smith et al. found that E. coli survives.
So did Horvat et al.
The others did not.

Use version 1.2.3 or v2.0.
Older ones crash at 3.5 MB.
It took 3.14 seconds.

See https://example.org/a.b/c.html?x=1.2 or write to a.b@example.org.
It is long.
Open docs.python.org.
Then read os.path.join and pyproject.toml.

Call `run. Then stop` or ``a. B`` before it ends.
Set it to `x.y`.
It is the default.

It waited ... and then it dived.
Nobody saw it...
It came up again […] from the deep.
The report [...] Says nothing more.
It was late . . . and dark.

“Why is that?” he asked.
“It dives.” said Smith.
She said: “It nests.”
(It was the first dive.)
The second came later.
He asked (why?) and left.

Gannets dive deep.[1][2]
They nest on cliffs.[citation needed]
They are white.¹
So are their heads.

Do this: 1. Wait for the bird.
2. Count the dives.
3. Write them down.

The war ended in 1998.
The peace lasted until Louis XIV.
Nothing else is known.

Sastanak je 3. siječnja 2024. godine u 9. ulici, npr. u br. 5 ili na str. 7.
Došli su dr. sc. Ana Anić, gosp. Horvat i dr.
Na kraju su svi otišli kući.

Crkva sv. Marka i ul. Ivana Gundulića nalaze se u XVIII. stoljeću, tj. u 18. st. prema čl. 12 st. 2 Zakona.
To je tzv. Gornji grad.
Živjelo se od ribe, kruha itd.
Nakon toga je došla zima.

A. G. Matoš rođen je 13. lipnja 1873. u Tovarniku.
Umro je u Zagrebu, gl. gradu Hrvatske, u 41. godini života.
„Grič je moj grad.“
Tako je rekao.

Am 3. Oktober 1990 trat z. B. Sachsen bei, vgl. Abb. 4 und Bd. 2.
Das geschah im 20. Jahrhundert.
Danach war es still.

海鳥は深く潜る。
「魚を捕る。」
それは鳥である。

gannets dive into the sea .
they nest on rock .
the u.s. coast has none of them !
are they there ?
nobody knows .
they came to washington , d.c. .
it is called a `` diver '' by some .
others call it a `` fisher '' .

He calls it ``the diver'' in print.
Others call it ``the fisher'' at sea.
Nobody agrees.

The bone needs vitamin D.
It also needs calcium, e.g. from milk.
The list is for mucopolysaccharidosis type I.
The rest is unknown.
"""


@pytest.mark.parametrize(
    "sentences", [case.splitlines() for case in CASES.strip().split("\n\n")], ids=lambda case: case[0][:24]
)
def test_spans_of_real_sentences_are_those_sentences(sentences: list[str]):
    """English, Croatian, German and Japanese, with whatever has a stop without ending a sentence."""
    text = " ".join(sentences)
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


@pytest.mark.parametrize(
    "text",
    [
        "3. Hrvatska liga počinje danas.",
        "It costs 5 c. per metre.",
        "The no. of birds, the max. depth and the op. in question are known.",
        "The captain (Lt. Col. J. Smith) left.",
        "He came on 5 Dec. 2010 and left.",
        "Ivan Pavao II. i Petar I. bili su tamo.",
        "Nalazi se na min. 3 m dubine, max. 22 m.",
        "Horvat i sur. (2010) te Marić et al. (2011) opisuju ronjenje.",
    ],
)
def test_spans_of_one_sentence_are_one_span(text: str):
    """Each stop inside belongs to a word."""
    assert [(0, len(text))] == list(sentence_spans(text))
