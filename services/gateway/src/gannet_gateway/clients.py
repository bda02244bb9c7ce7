"""The model servers as the gateway sees them: plain values in and out, protobuf only here."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray

from gannet.common.v1 import vectors_pb2
from gannet.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from gannet.generator.v1 import generator_pb2, generator_pb2_grpc
from gannet_gateway.cache.tiers import Tier
from gannet_gateway.vectors.points import Sparse
from gannet_service import clients
from gannet_service.clients import open_channel
from gannet_service.errors import DependencyUnavailable, GannetError, from_status

EMBEDDER = "gannet.embedder.v1.Embedder"
GENERATOR = "gannet.generator.v1.Generator"

MODEL_DIGEST_TTL_S = 10.0
INFO_TIMEOUT_S = 1.0
# As many as a server names: which of them are cited is decided by who asks.
VERDICT_SPANS_MAX = 16

_ROLES = {
    "system": generator_pb2.ROLE_SYSTEM,
    "user": generator_pb2.ROLE_USER,
    "assistant": generator_pb2.ROLE_ASSISTANT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingModel:
    """What the embedder serves."""

    model: str
    digest: str
    dim: int
    batch_texts_max: int
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextVectors:
    """One text's vectors; `dense` is f32[dim]. `truncated`: the dense vector leaves the text's end out."""

    dense: NDArray[np.float32]
    sparse: Sparse
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryVectors:
    """A query's vectors, those that were asked for, and the tier of the cache that they came from, if there is one."""

    dense: NDArray[np.float32] | None
    sparse: Sparse | None
    tier: Tier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The generator's next piece of text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """A span of the answer and the spans (source, start, end) of the sources that support it, in bytes."""

    start_byte: int
    end_byte: int
    sources: tuple[tuple[int, int, int], ...]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The generator's last word; `reason` is the name of a FinishReason. Tokens are 0 where the generator does not count them."""

    reason: str
    sentences_scored: int = 0
    tokens_read: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    queue_us: int = 0
    generator: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to a model; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen, and when to stop; None leaves it to the generator."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a generator is asked; one that quotes reads `sources` ((title, text), best first), one that writes freely `messages`."""

    generator: str
    question: str
    sources: Sequence[tuple[str, str]]
    sentences_max: int = 0
    messages: Sequence[Message] = ()
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorModel:
    """One of the generators in service; `context_tokens_max` and `tokens_max` are 0 where nobody knows."""

    name: str
    free_text: bool
    model: str
    digest: str
    context_tokens_max: int
    tokens_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generators:
    """The generators in service by name, the first one under "" too, and how claims are verified."""

    by_name: Mapping[str, GeneratorModel]
    claims_max: int
    verify_threshold: float
    verify_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How likely it is, 0 to 1, that the sources support a claim, and the spans (source, start, end, score) that do so best."""

    score: float
    supported: bool
    spans: tuple[tuple[int, int, int, float], ...]


class Embedder:
    """Calls the embedder."""

    def __init__(self, target: str, *, timeout_s: float) -> None:
        self.channel: grpc.aio.Channel = open_channel(target, retried_services=(EMBEDDER,))
        self._stub = embedder_pb2_grpc.EmbedderStub(self.channel)
        self._timeout_s = timeout_s
        self._model: EmbeddingModel | None = None

    async def model(self) -> EmbeddingModel:
        """The model in service; asked once, a server that restarts with another model needs a restart here too."""
        if self._model is None:
            info = await clients.unary(self._stub.Info, embedder_pb2.InfoRequest(), name="embedder.Info", timeout_s=5.0)
            self._model = EmbeddingModel(
                model=info.model,
                digest=info.model_digest,
                dim=info.dim,
                batch_texts_max=info.batch_texts_max,
                languages=tuple(info.languages),
            )
        return self._model

    async def query(self, text: str, *, language: str, dense: bool, sparse: bool) -> QueryVectors:
        """The vectors of a query, those that were asked for.

        Raises:
            GannetError: what the embedder said, or DependencyUnavailable.
        """
        (found,) = await self.queries([text], language=language, dense=dense, sparse=sparse)
        if isinstance(found, GannetError):
            raise found
        return found

    async def queries(
        self, texts: Sequence[str], *, language: str, dense: bool, sparse: bool
    ) -> list[QueryVectors | GannetError]:
        """The vectors of queries, in order; a text that the embedder refuses has its error in its place.

        One request, unless they are more than the embedder takes in one.

        Raises:
            GannetError: what the embedder said of the request, or DependencyUnavailable.
        """
        size = 1 if len(texts) == 1 else (await self.model()).batch_texts_max
        vectors: list[QueryVectors | GannetError] = []
        for at in range(0, len(texts), size):
            request = embedder_pb2.EmbedRequest(
                texts=texts[at : at + size],
                purpose=embedder_pb2.PURPOSE_QUERY,
                priority=embedder_pb2.PRIORITY_INTERACTIVE,
                want_dense=dense,
                want_sparse=sparse,
                sparse=embedder_pb2.SparseOptions(language=language),
            )
            response = await clients.unary(self._stub.Embed, request, name="embedder.Embed", timeout_s=self._timeout_s)
            vectors += [_query_vectors(result, dense=dense, sparse=sparse) for result in response.results]
        if len(vectors) != len(texts):
            raise DependencyUnavailable(f"embedder: {len(vectors)} results for {len(texts)} texts")
        return vectors

    async def passages(
        self, texts: Sequence[str], *, language: str, average_length: float, timeout_s: float
    ) -> list[TextVectors | GannetError]:
        """The vectors of passages, in order; a text that the embedder refuses has its error in its place. In its bulk lane.

        In requests of the size that the embedder takes.

        Raises:
            GannetError: what the embedder said of a request as a whole, or DependencyUnavailable.
        """
        size = (await self.model()).batch_texts_max
        vectors: list[TextVectors | GannetError] = []
        for at in range(0, len(texts), size):
            request = embedder_pb2.EmbedRequest(
                texts=texts[at : at + size],
                purpose=embedder_pb2.PURPOSE_PASSAGE,
                priority=embedder_pb2.PRIORITY_BULK,
                want_dense=True,
                want_sparse=True,
                sparse=embedder_pb2.SparseOptions(language=language, average_length=average_length),
            )
            response = await clients.unary(self._stub.Embed, request, name="embedder.Embed", timeout_s=timeout_s)
            vectors += map(_text_vectors, response.results)
        if len(vectors) != len(texts):
            raise DependencyUnavailable(f"embedder: {len(vectors)} results for {len(texts)} texts")
        return vectors


class Generator:
    """Calls the generator."""

    def __init__(self, target: str, *, timeout_s: float) -> None:
        self.channel: grpc.aio.Channel = open_channel(target)
        self._stub = generator_pb2_grpc.GeneratorStub(self.channel)
        self._timeout_s = timeout_s
        self._known: tuple[Generators, float] | None = None

    async def generators(self) -> Generators:
        """What is in service, as it was at most MODEL_DIGEST_TTL_S ago; raises GannetError if there is no telling."""
        now = time.monotonic()
        if self._known is None or now >= self._known[1] + MODEL_DIGEST_TTL_S:
            request = generator_pb2.InfoRequest()
            info = await clients.unary(self._stub.Info, request, name="generator.Info", timeout_s=INFO_TIMEOUT_S)
            self._known = _generators(info), now
        return self._known[0]

    async def generate(self, generation: Generation) -> AsyncGenerator[Said | Cited | Done]:
        """Stream an answer. Closing the iterator stops the generator."""
        request = _generate_request(generation)
        responses = clients.stream(self._stub.Generate, request, name="generator.Generate", timeout_s=self._timeout_s)
        async with aclosing(responses):
            async for response in responses:
                match response.WhichOneof("event"):
                    case "delta":
                        yield Said(text=response.delta.text)
                    case "citation":
                        yield _cited(response.citation)
                    case "finished":
                        yield _done(response.finished)
                    case _:
                        raise DependencyUnavailable("generator: an event of an unknown kind")

    async def count_tokens(self, generator: str, texts: Sequence[str]) -> list[int]:
        """How many tokens of a generator's context each text takes."""
        request = generator_pb2.CountTokensRequest(generator=generator, texts=texts)
        reply = await clients.unary(
            self._stub.CountTokens, request, name="generator.CountTokens", timeout_s=INFO_TIMEOUT_S
        )
        if len(reply.text_tokens) != len(texts):
            raise DependencyUnavailable(f"generator: {len(reply.text_tokens)} counts for {len(texts)} texts")
        return list(reply.text_tokens)

    async def verify(
        self, claims: Sequence[str], sources: Sequence[tuple[str, str]], *, timeout_s: float
    ) -> tuple[list[Verdict], int]:
        """A verdict a claim, and the tokens that it took; `sources` are (title, text)."""
        request = generator_pb2.VerifyRequest(claims=claims, sources=_sources(sources), spans_max=VERDICT_SPANS_MAX)
        timeout_s = min(timeout_s, self._timeout_s)
        reply = await clients.unary(self._stub.Verify, request, name="generator.Verify", timeout_s=timeout_s)
        if len(reply.verdicts) != len(claims):
            raise DependencyUnavailable(f"generator: {len(reply.verdicts)} verdicts for {len(claims)} claims")
        return [_verdict(verdict) for verdict in reply.verdicts], reply.tokens_read


async def close(*channels: grpc.aio.Channel) -> None:
    """Close channels; calls in work on them are cancelled."""
    await asyncio.gather(*(channel.close() for channel in channels))


def _query_vectors(result: embedder_pb2.EmbedResult, *, dense: bool, sparse: bool) -> QueryVectors | GannetError:
    if result.HasField("error"):
        return from_status(result.error)
    return QueryVectors(
        dense=_dense(result.dense) if dense else None, sparse=_sparse(result.sparse) if sparse else None
    )


def _text_vectors(result: embedder_pb2.EmbedResult) -> TextVectors | GannetError:
    if result.HasField("error"):
        return from_status(result.error)
    return TextVectors(dense=_dense(result.dense), sparse=_sparse(result.sparse), truncated=result.truncated)


def _dense(vector: vectors_pb2.DenseVector) -> NDArray[np.float32]:
    return np.frombuffer(vector.data, dtype="<f4", count=vector.dim)


def _sparse(vector: vectors_pb2.SparseVector) -> Sparse:
    indices = np.fromiter(vector.indices, np.uint32, count=len(vector.indices))
    return Sparse(indices=indices, values=np.frombuffer(vector.values, dtype="<f4", count=len(indices)))


def _cited(citation: generator_pb2.Citation) -> Cited:
    sources = tuple((span.source_index, span.start_byte, span.end_byte) for span in citation.sources)
    return Cited(start_byte=citation.start_byte, end_byte=citation.end_byte, sources=sources, score=citation.score)


def _done(finished: generator_pb2.Finished) -> Done:
    if finished.reason not in generator_pb2.FinishReason.values():
        raise DependencyUnavailable(f"generator: finish reason {finished.reason} is not known")
    return Done(
        reason=generator_pb2.FinishReason.Name(finished.reason),
        sentences_scored=finished.sentences_scored,
        tokens_read=finished.tokens_read,
        prompt_tokens=finished.usage.prompt_tokens,
        completion_tokens=finished.usage.completion_tokens,
        queue_us=finished.timings.queue_us,
        generator=finished.generator,
        model=finished.model,
    )


def _generate_request(generation: Generation) -> generator_pb2.GenerateRequest:
    sampling = generation.sampling
    return generator_pb2.GenerateRequest(
        question=generation.question,
        sources=_sources(generation.sources),
        sentences_max=generation.sentences_max,
        generator=generation.generator,
        messages=[generator_pb2.Message(role=_ROLES[one.role], content=one.content) for one in generation.messages],
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop=sampling.stop,
    )


def _sources(sources: Sequence[tuple[str, str]]) -> list[generator_pb2.Source]:
    return [generator_pb2.Source(title=title, text=text) for title, text in sources]


def _generators(info: generator_pb2.InfoResponse) -> Generators:
    models = [
        GeneratorModel(
            name=one.name,
            free_text=one.free_text,
            model=one.model,
            digest=one.model_digest,
            context_tokens_max=one.context_tokens_max,
            tokens_max=one.tokens_max,
        )
        for one in info.generators
    ]
    if not models:
        raise DependencyUnavailable("generator: it names no generator")
    return Generators(
        by_name={model.name: model for model in models} | {"": models[0]},
        claims_max=max(1, info.claims_max),
        verify_threshold=info.verify_threshold,
        verify_digest=info.verify_model_digest,
    )


def _verdict(verdict: generator_pb2.Verdict) -> Verdict:
    spans = tuple((one.span.source_index, one.span.start_byte, one.span.end_byte, one.score) for one in verdict.spans)
    return Verdict(score=verdict.score, supported=verdict.supported, spans=spans)
