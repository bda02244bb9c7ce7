"""A haystack pipeline: sentence-transformers' embedder (torch, float32) and Qdrant's hybrid retriever, run by threads.

The query's BM25 terms are handed to it ready-made: its own embedder for them wants a model that is not here, and costs it nothing this way.
"""

import itertools
import json
import threading
import time
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from line_protocol import CORES, serve

np: Any = import_module("numpy")
torch: Any = import_module("torch")
haystack: Any = import_module("haystack")
dataclasses: Any = import_module("haystack.dataclasses")
embedders: Any = import_module("haystack_integrations.components.embedders.sentence_transformers")
retrievers: Any = import_module("haystack_integrations.components.retrievers.qdrant")
stores: Any = import_module("haystack_integrations.document_stores.qdrant")

PUT_AT_ONCE = 2000
WRITE_BATCH = 128
TOP_K = 10
INDEX = "haystack"
state: dict[str, Any] = {}


def load(folder: str, port: int, dim: int) -> dict[str, Any]:
    """Opens the store on the vector server's gRPC port and builds the pipeline."""
    torch.set_num_threads(CORES)
    store = stores.QdrantDocumentStore(
        host="127.0.0.1",
        grpc_port=port,
        prefer_grpc=True,
        https=False,
        index=INDEX,
        embedding_dim=dim,
        use_sparse_embeddings=True,
        sparse_idf=True,
        write_batch_size=WRITE_BATCH,
        progress_bar=False,
        client_kwargs={"check_compatibility": False},
    )
    pipeline = haystack.Pipeline()
    pipeline.add_component("embedder", embedders.SentenceTransformersTextEmbedder(model=folder, progress_bar=False))
    pipeline.add_component("retriever", retrievers.QdrantHybridRetriever(document_store=store, top_k=TOP_K))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    state.update(store=store, pipeline=pipeline)
    packages = ("haystack-ai", "qdrant-haystack", "sentence-transformers", "torch", "qdrant-client")
    return {"versions": {name: metadata.version(name) for name in packages}, "documents": store.count_documents()}


def fill(vectors: str, texts: str) -> dict[str, Any]:
    """Writes the passages of search_corpus.py as the store's documents."""
    real: list[str] = json.loads(Path(texts).read_text())
    with np.load(vectors) as stored:
        dense, starts = stored["dense"], stored["starts"]
        indices, values = stored["indices"], stored["values"]
    for at in range(0, len(dense), PUT_AT_ONCE):
        documents: list[Any] = []
        for one in range(at, min(len(dense), at + PUT_AT_ONCE)):
            terms = slice(starts[one], starts[one + 1])
            sparse = dataclasses.SparseEmbedding(indices=indices[terms].tolist(), values=values[terms].tolist())
            documents.append(
                haystack.Document(
                    id=str(one),
                    content=real[one % len(real)],
                    meta={"copy": one // len(real)},
                    embedding=dense[one].tolist(),
                    sparse_embedding=sparse,
                )
            )
        state["store"].write_documents(documents)
    return {"documents": state["store"].count_documents()}


def run(queries: list[tuple[str, list[int], list[float]]], clients: int, seconds: float) -> dict[str, Any]:
    """Asks (text, term ids, term weights) in turn, each once, from `clients` threads, until the time or the queries are up."""
    turn, taking = iter(queries), threading.Lock()
    taken: list[float] = []
    failed: list[str] = []
    started = time.perf_counter()

    def caller() -> None:
        while (begun := time.perf_counter()) < started + seconds and not failed:
            with taking:
                one = next(turn, None)
            if one is None:
                return
            text, indices, values = one
            sparse = dataclasses.SparseEmbedding(indices=indices, values=values)
            try:
                asked = {"embedder": {"text": text}, "retriever": {"query_sparse_embedding": sparse}}
                found = state["pipeline"].run(asked)["retriever"]["documents"]
            except Exception as error:  # noqa: BLE001 - the root of a thread
                failed.append(f"{type(error).__name__}: {error}")
                return
            if len(found) != TOP_K:
                failed.append(f"{len(found)} documents for {text!r}")
            taken.append(time.perf_counter() - begun)

    callers = [threading.Thread(target=caller) for _ in itertools.repeat(None, clients)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    if failed:
        raise RuntimeError(failed[0])
    return {"seconds": time.perf_counter() - started, "taken": taken}


serve({"load": load, "fill": fill, "run": run})
