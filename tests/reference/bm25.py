"""Naive references of `gannet_kernels.bm25`, over Python's own regular expressions and integers."""

import collections
import re


def fnv1a(word: bytes) -> int:
    """64-bit FNV-1a (Fowler, Noll, Vo)."""
    value = 0xCBF29CE484222325
    for byte in word:
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def scan_words(text: bytes) -> list[tuple[int, int, int]]:
    """Start, end and lower-case hash of every word."""
    words = re.finditer(rb"[A-Za-z0-9\x80-\xff]+", text)
    return [(word.start(), word.end(), fnv1a(word.group().lower())) for word in words]


def count_terms(terms: list[int]) -> dict[int, int]:
    """How often each term occurs, leaving out 0, in ascending order."""
    counts = collections.Counter(term for term in terms if term)
    return dict(sorted(counts.items()))


def weigh_terms(terms: list[int], k1: float, b: float, average_length: float) -> dict[int, float]:
    """tf·(k1 + 1) / (tf + k1·(1 - b + b·length/average_length))."""
    counts = count_terms(terms)
    length = sum(counts.values())
    return {term: tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average_length)) for term, tf in counts.items()}
