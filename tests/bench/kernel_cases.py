"""What `bench_kernels` compares: each kernel at the sizes that services use, and what else does the same work."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bm25s
import datasets
import numba
import numkong
import numpy as np
import simsimd
import Stemmer
from bm25s.tokenization import Tokenizer
from langchain_text_splitters import RecursiveCharacterTextSplitter
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter

import gannet_kernels as ours
from gannet_gateway.documents.chunking import chunk
from gannet_lexical.sparse import Bm25Encoder

DIM = 384
HUNDRED_SIZE = "25 of 100 × 384"
SCAN_SIZE = "1,000,000 × 384"
CHUNK_SIZE, CHUNK_OVERLAP = 1000, 150
PASSAGE_CHARS = 1000
QUESTION = "0-dimensional biomaterials show inductive properties in cells"

Contenders = dict[str, Callable[[], object]]
_random = np.random.default_rng(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Contenders do the same work; `gannet` is one of them."""

    kernel: str
    size: str
    contenders: Contenders


def cases() -> Iterator[Case]:
    """Every kernel at every size, but for the scan of a million rows."""
    ours.compile_all()
    yield from ranking()
    yield from pooling()
    yield from quantisation()
    yield from bm25()
    yield from chunking()


def scan() -> Contenders:
    """A million rows, and one thread that does nothing but read them: the bound of any exact scan."""
    rows = _random.standard_normal((1_000_000, DIM), np.float32)
    query = unit(1)[0]
    read = numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})(_sum)
    return {
        "gannet": lambda: ours.exact_top_k(query, rows, 10),
        "Numba, sum of all components": lambda: read(rows.reshape(-1)),
        "NumPy, rows @ query and argpartition": lambda: numpy_top_k(rows @ query, 10),
    }


def ranking() -> Iterator[Case]:
    """The best of candidates, and fused scores."""
    query = unit(1)[0]
    # The decoder's, for the log probabilities of a vocabulary.
    logits = _random.standard_normal(49_152, np.float32)
    for k in (5, 20):
        yield Case(kernel="top_k", size=f"{k} of {len(logits):,}", contenders=_top_k(logits, k))
    # What `exact` searches rescore: a quarter is kept where the dense list stands alone, all of it where it is fused.
    for count, k in ((50, 10), (50, 50), (100, 25), (1000, 250), (4000, 1000), (4000, 4000)):
        rows = by_quantised_score(query, unit(count))
        size = f"{k} of {count:,} × {DIM}"
        yield Case(kernel="exact_top_k", size=size, contenders=_exact_top_k(query, rows, k))
    rows = unit(100)
    scores = rows @ query
    yield Case(
        kernel="mmr",
        size=f"10 of 100 × {DIM}",
        contenders={
            "gannet": lambda: ours.mmr(scores, rows, 10, 0.5),
            "NumPy": lambda: numpy_mmr(scores, rows, 10, 0.5),
        },
    )
    first, second = _random.standard_normal((2, 100))
    yield from fusion(first, second)


def _top_k(scores: NDArray[np.float32], k: int) -> Contenders:
    return {
        "gannet": lambda: ours.top_k(scores, k),
        "NumPy, argpartition": lambda: numpy_top_k(scores, k),
        "NumPy, argsort": lambda: np.argsort(-scores, kind="stable")[:k],
    }


def _exact_top_k(query: NDArray[np.float32], rows: NDArray[np.float32], k: int) -> Contenders:
    def pair_by_pair() -> object:
        cosines = [np.dot(query, row) / (np.linalg.norm(query) * np.linalg.norm(row)) for row in rows]
        return numpy_top_k(np.array(cosines), k)

    return {
        "gannet": lambda: ours.exact_top_k(query, rows, k),
        "NumPy, rows @ query and argpartition": lambda: numpy_top_k(rows @ query, k),
        "NumPy, pair by pair": pair_by_pair,
        "numkong.cdist and argpartition": lambda: numpy_top_k(
            np.asarray(numkong.cdist(query[np.newaxis], rows, "dot"))[0], k
        ),
        "simsimd.cdist and argpartition": lambda: numpy_top_k(
            np.asarray(simsimd.cdist(query[np.newaxis], rows, "dot"))[0], k
        ),
    }


def fusion(first: NDArray[np.float64], second: NDArray[np.float64]) -> Iterator[Case]:
    """Two lists of scores of 100 candidates."""

    def z_scores() -> object:
        return (first - first.mean()) / first.std() + 0.3 * ((second - second.mean()) / second.std())

    def relative(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        least, greatest = np.nanmin(scores), np.nanmax(scores)
        return np.nan_to_num((scores - least) / (greatest - least))

    pairs: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("fuse_z_scores", lambda: ours.fuse_z_scores(first, second, 0.3), z_scores),
        (
            "fuse_relative_scores",
            lambda: ours.fuse_relative_scores(first, second, 0.5),
            lambda: 0.5 * relative(first) + 0.5 * relative(second),
        ),
        ("order_descending", lambda: ours.order_descending(first), lambda: np.argsort(-first, kind="stable")),
    ]
    for kernel, mine, numpy in pairs:
        yield Case(kernel=kernel, size="100", contenders={"gannet": mine, "NumPy": numpy})


def pooling() -> Iterator[Case]:
    """One text without padding, as on a CPU, and a padded batch, as on a GPU."""
    for texts, tokens in ((1, 16), (1, 256), (8, 128)):
        hidden = _random.standard_normal((texts, tokens, DIM), np.float32)
        lengths = np.linspace(tokens, tokens // 2, texts).astype(np.int64)
        size = f"{texts} × {tokens} × {DIM}"
        yield Case(kernel="mean_pool", size=size, contenders=_pool(ours.mean_pool, hidden, lengths, np.mean))
        yield Case(kernel="max_pool", size=size, contenders=_pool(ours.max_pool, hidden, lengths, np.max))
        yield Case(
            kernel="cls_pool",
            size=size,
            contenders=_pool(ours.cls_pool, hidden, lengths, lambda rows, axis: rows[axis]),
        )


def _pool(kernel: Any, hidden: NDArray[np.float32], lengths: NDArray[np.int64], reduce: Any) -> Contenders:
    def numpy() -> object:
        pooled = np.stack([reduce(rows[:length], axis=0) for rows, length in zip(hidden, lengths, strict=True)])
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    return {"gannet": lambda: kernel(hidden, lengths, True), "NumPy": numpy}


def quantisation() -> Iterator[Case]:
    """One vector, as it leaves the embedder."""
    vector = unit(1)[0]

    def int8() -> object:
        scale = np.float32(np.abs(vector).max() / 127)
        return np.rint(vector / scale).clip(-127, 127).astype(np.int8), scale

    yield Case(kernel="to_int8", size=f"{DIM}", contenders={"gannet": lambda: ours.to_int8(vector), "NumPy": int8})
    yield Case(
        kernel="to_bits",
        size=f"{DIM}",
        contenders={"gannet": lambda: ours.to_bits(vector), "NumPy": lambda: np.packbits(vector > 0)},
    )


def bm25() -> Iterator[Case]:
    """Texts to weighted terms: ours does all of it, bm25s' tokeniser stops at term ids and keeps its words too."""
    corpus = datasets.load("scifact").corpus.values()
    texts = [f"{title} {text}"[:PASSAGE_CHARS] for title, text in corpus][:256]
    encoder, stemmer = Bm25Encoder("en"), Stemmer.Stemmer("english")
    tokenizer = Tokenizer(stemmer=stemmer, stopwords="en", lower=True)

    def tokenise(batch: list[str]) -> object:
        return tokenizer.tokenize(batch, show_progress=False, return_as="ids")

    def index(batch: list[str]) -> object:
        tokens = tokenizer.tokenize(batch, show_progress=False, return_as="tuple")
        return bm25s.BM25(k1=1.2, b=0.75).index(tokens, show_progress=False)

    for size, batch in ((f"a passage of {PASSAGE_CHARS:,} characters", texts[:1]), ("256 passages", texts)):
        yield Case(
            kernel="weigh_text",
            size=size,
            contenders={
                "gannet": lambda batch=batch: [encoder.passage(text) for text in batch],
                "bm25s, tokenising only": lambda batch=batch: tokenise(batch),
                "bm25s, tokenising and weighing": lambda batch=batch: index(batch),
            },
        )
    yield Case(
        kernel="count_text",
        size="a question of 8 words",
        contenders={"gannet": lambda: encoder.query(QUESTION), "bm25s, tokenising only": lambda: tokenise([QUESTION])},
    )


def chunking() -> Iterator[Case]:
    """Documents to chunks, in Python: ours alone gives places in bytes and headings."""
    text = "\n\n".join(f"{title}\n{body}" for title, body in datasets.load("peps_sections").corpus.values())
    langchain = RecursiveCharacterTextSplitter(chunk_size=CHUNK_SIZE, chunk_overlap=CHUNK_OVERLAP)
    semantic = TextSplitter(CHUNK_SIZE, overlap=CHUNK_OVERLAP)
    for count in (1_000, 10_000, 100_000):
        document = text[:count]
        yield Case(
            kernel="chunk",
            size=f"{count:,} characters",
            contenders={
                "gannet": lambda document=document: chunk(document, size=CHUNK_SIZE, overlap=CHUNK_OVERLAP),
                "langchain-text-splitters": lambda document=document: langchain.split_text(document),
                "semantic-text-splitter": lambda document=document: semantic.chunks(document),
            },
        )


def unit(count: int) -> NDArray[np.float32]:
    """Random vectors of length 1."""
    rows = _random.standard_normal((count, DIM), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_quantised_score(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows as a store that quantises gives them: by a score with errors of 0.003, standard deviation."""
    scores = rows @ query + _random.normal(0, 0.003, len(rows))
    return np.ascontiguousarray(rows[np.argsort(-scores)])


def numpy_top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The fastest way in NumPy; its choice among equals is arbitrary."""
    best = np.argpartition(-scores, k - 1)[:k]
    return best[np.argsort(-scores[best], kind="stable")]


def numpy_mmr(relevance: NDArray[np.float32], rows: NDArray[np.float32], k: int, balance: float) -> list[int]:
    """One matrix-vector product per pick."""
    values, left = relevance.copy(), np.ones(len(rows), dtype=np.bool_)
    nearest = np.full(len(rows), -np.inf, dtype=np.float32)
    picked: list[int] = []
    for _ in range(k):
        pick = int(np.argmax(np.where(left, values, -np.inf)))
        picked.append(pick)
        left[pick] = False
        np.maximum(nearest, rows @ rows[pick], out=nearest)
        values = balance * relevance - (1 - balance) * nearest
    return picked


def _sum(components: NDArray[np.float32]) -> np.float32:
    total = np.float32(0.0)
    for place in range(components.shape[0]):
        total += components[place]
    return total
