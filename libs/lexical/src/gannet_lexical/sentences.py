"""Where sentences end, the same for passages that are quoted (generator) and for answers that are verified (gateway).

A full stop ends a sentence unless the word before it, or the word after it, says otherwise. Dots inside of words (decimals, versions,
addresses, `os.path`) never end one, since a sentence's end is followed by white space. English, Croatian and German abbreviations are
known by name, those of other languages by their shape: short, or followed by a small letter.
"""

import re
from collections.abc import Iterator

_CLOSERS = "\"')]}”’“‘»«›*_`"
_OPENERS = "\"'([{“‘„‚«»‹*_`"
_QUESTIONS = "!?؟۔।॥"
_FULL_STOPS_CJK = "。！？"
# Closing marks belong to the sentence, and so do the footnotes of an encyclopaedia: "deep.[1][2] It", "deep.¹ It".
_END = re.compile(
    rf"[.…{_QUESTIONS}]+[{re.escape(_CLOSERS)}]*(?:\[[\w, –-]{{1,20}}\]|[⁰¹²³⁴-⁹])*(?=\s)|[{_FULL_STOPS_CJK}]+[」』”’）]*"
)
# Neither beginning nor ending in white space: tokenised text and TeX quote ``like this'', and what lies between two quotes is no code.
_CODE = re.compile(r"(?<!`)(`+)(?![`\s])[^`]{1,200}(?<!\s)\1(?!`)")
_SPACE = re.compile(r"\s+")
# What is looked at on either side of a stop; a longer word is no abbreviation.
_WORD_CHARS_MAX = 40


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Always followed by what they belong to.
_NEVER_LAST = _words(
    "mr mrs ms messrs dr prof st mt ft gen col capt lt sgt cmdr maj rep sen gov hon rev fr assoc univ dept e.g i.e eg ie vs viz cf resp "
    "approx ca incl excl npr tzv tj odn usp engl njem lat grč franc akad sc ing pok gosp ul sv čl bzw vgl"
)
# A number follows these unless they end a sentence ("No.").
_BEFORE_NUMBER = _words(
    "no nos nr fig figs tab eq eqs sec sect ch chap vol art para p pp ver ref refs op est min max tel ext jan feb mar apr jun jul aug sep "
    "sept oct nov dec br str sl t god toč pogl abb abs bd s"
)
_NUMBER_LIKE = re.compile(r"[A-Z]?\.?\d|[IVXLC]+\b")
# Behind "and" these say "and others", which may end a sentence: "Horvat i dr."
_AND_OTHERS = {"dr": "i", "sl": "i", "sur": "i", "al": "et"}
# Dotted acronyms (U.S., p.m., Ph.D.) and initials may end a sentence: what follows decides.
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}$")
_STARTERS = _words(
    "a an and as at but by for from he her his how however if in it its many most no not on one our she since so some such that the "
    "their then there these they this those to under we what when where which who while why with you your "
    "after all also although another because before both despite during each finally here instead later meanwhile moreover nevertheless "
    "now only other over several therefore thus until whether yet "
    "u na i ali ako kad kada on ona ono oni to taj ta ovaj ova ovo nakon prije zato za od po kao zbog "
    "der die das ein eine er sie es im am und aber auch nach bei mit wenn"
)
_ORDINAL = re.compile(r"\d{1,4}|[IVXLC]+")
_SMALL = re.compile(r"\d{1,2}")
# German writes these in capitals behind an ordinal: "am 3. Oktober". English months stand before their day.
_ORDERED = _words(
    "januar jänner februar märz april mai juni juli august september oktober november dezember jahrhundert jahrhunderts jh"
)
_ENUMERATES = ":;,(" + _OPENERS
# Abbreviations that are not listed are short: "min. size", "etc. and so on".
_ABBREVIATION_CHARS_MAX = 4


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Split one paragraph.

    Args:
        text: holds the paragraph.
        start: where it begins, in characters.
        end: one past its last character; None is the text's end.

    Yields:
        The spans of its sentences: ascending, disjoint, neither beginning nor ending in white space, and with nothing but white space
        before, between and behind them.
    """
    end = len(text) if end is None else end
    leading = _SPACE.match(text, start, end)
    start = leading.end() if leading else start
    codes = [found.span() for found in _CODE.finditer(text, start, end)] if "`" in text else []
    for found in _END.finditer(text, start, end):
        following = _SPACE.match(text, found.end(), end)
        next_start = following.end() if following else found.end()
        if next_start < end and not _is_within(found, codes) and _ends_sentence(text, start, found, next_start):
            yield start, found.end()
            start = next_start
    last_end = start + len(text[start:end].rstrip())
    if start < last_end:
        yield start, last_end


def _is_within(found: re.Match[str], codes: list[tuple[int, int]]) -> bool:
    """Whether the stop is part of code: "call `a. b` now"."""
    return any(code_start < found.start() and found.end() < code_end for code_start, code_end in codes)


def _ends_sentence(text: str, start: int, found: re.Match[str], next_start: int) -> bool:
    mark, following = found.group(), text[next_start]
    if mark[0] in _FULL_STOPS_CJK:
        return True
    before = text[max(start, found.start() - _WORD_CHARS_MAX) : found.start()]
    if mark[0] == "." and mark[:2] != ".." and (not before or before[-1].isspace()):
        # Tokenised text, "… the sea . it nests …": no abbreviation stands apart from its stop. ". . ." is one ellipsis.
        within_ellipsis = before.split()[-1:] == ["."]
        goes_on = following == "." and not text.startswith("..", next_start)
        return not goes_on and not (within_ellipsis and following.islower())
    if following.islower() and mark[-1] in _CLOSERS and len(mark) > 1:
        return False  # "Why?" he asked.
    if mark.startswith(("..", "…")):
        # "[...]" stands for words that were left out of the sentence.
        return not following.islower() and not before.endswith(("[", "("))
    if any(sign in mark for sign in _QUESTIONS):
        return True
    after = text[next_start : next_start + _WORD_CHARS_MAX].split(maxsplit=1)[0].strip(_OPENERS + _CLOSERS + ",;:")
    return _stops_after(before.split(), after, opens=found.start() - len(before) <= start)


def _stops_after(before: list[str], after: str, *, opens: bool) -> bool:
    """Whether the full stop behind the words `before` ends a sentence when `after` follows; `opens`: they are all of the sentence."""
    raw = before[-1]
    word = raw.lstrip(_OPENERS)
    lower = word.lower()
    previous = before[-2] if len(before) > 1 else ""
    and_others = _AND_OTHERS.get(lower) == previous.lower()
    belongs_to_next = lower in _NEVER_LAST or (lower in _BEFORE_NUMBER and _NUMBER_LIKE.match(after) is not None)
    if belongs_to_next and not and_others:
        return False
    if and_others or _DOTTED.match(lower) or (len(word) == 1 and word.isalpha()):
        return _starts(after)
    if _ORDINAL.fullmatch(word):
        return not _goes_on_after_ordinal(raw, previous, after, opens=opens and len(before) == 1)
    if after[:1].islower():
        return len(word) > _ABBREVIATION_CHARS_MAX or not word[-1:].isalpha()
    return True


def _starts(after: str) -> bool:
    """Whether a sentence begins with `after`, as far as the word alone can tell."""
    return after[:1].isupper() and after.lower() in _STARTERS


def _goes_on_after_ordinal(raw: str, previous: str, after: str, *, opens: bool) -> bool:
    """Whether a number with a stop is an ordinal or the number of a list's item: "3. siječnja", "XVIII. stoljeće", "do this: 1. Wait"."""
    if opens or previous.endswith(tuple(_ENUMERATES)) or raw[0] in _OPENERS:
        return True
    return after[:1].islower() or (_SMALL.fullmatch(raw) is not None and after.lower().rstrip(".!?") in _ORDERED)
