"""Bare `session.run` in one process, in our own environment: tokenise, sort by length, run, pool."""

from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from line_protocol import CORES, embedder_operations, serve
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gannet_inference.session import ModelSession

state: dict[str, Any] = {}


def load(model: str, tokenizer: str, tokens_max: int, batch: int) -> dict[str, Any]:
    """Loads a graph; `batch` 1 means one text a run and as many runs side by side as there are cores."""
    words = Tokenizer.from_file(str(Path(tokenizer)))
    words.enable_truncation(tokens_max)
    words.no_padding()
    if batch == 1:
        # Our session's options are the fastest that we know for our graph; a bare loop with others would be easy to beat.
        ours: Any = ModelSession(Path(model), model="bare", threads=1)
        session: Any = ours._session
    else:
        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = CORES
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    state.update(session=session, tokenizer=words, batch=batch, pool=ThreadPoolExecutor(CORES))
    state["inputs"] = {entry.name for entry in session.get_inputs()}
    return {"versions": {name: metadata.version(name) for name in ("onnxruntime", "tokenizers")}}


def embed(texts: list[str]) -> NDArray[np.float32]:
    """f32[N, D], normalised."""
    encodings = state["tokenizer"].encode_batch_fast(texts)
    # The longest first: what runs last and alone is short.
    order = sorted(range(len(texts)), key=lambda place: -len(encodings[place].ids))
    batch = state["batch"]
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    rows = [[encodings[place].ids for place in places] for places in batches]
    side_by_side = state["pool"].map if batch == 1 else map
    vectors = np.concatenate(list(side_by_side(_run, rows)))
    unsorted = np.empty_like(vectors)
    unsorted[order] = vectors
    return unsorted


def _run(rows: list[list[int]]) -> NDArray[np.float32]:
    tokens = max(map(len, rows))
    ids = np.array([row + [0] * (tokens - len(row)) for row in rows], dtype=np.int64)
    mask = (np.arange(tokens) < np.array([[len(row)] for row in rows])).astype(np.int64)
    feeds = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": mask}
    hidden = state["session"].run(None, {name: feeds[name] for name in state["inputs"]})[0]
    if len(rows) == 1:
        pooled = hidden.mean(axis=1)
    else:
        weights = mask.astype(np.float32)
        pooled = np.einsum("bth,bt->bh", hidden, weights) / weights.sum(axis=1, keepdims=True)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


serve(embedder_operations(load, embed))
