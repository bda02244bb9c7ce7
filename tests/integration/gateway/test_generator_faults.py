"""Answers over a generator on a real socket that says, stalls, breaks off or contradicts itself as a test tells it to."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.gateway.answering import Search, answerer, check_invariants, question

from gannet.generator.v1 import generator_pb2 as pb
from gannet.generator.v1 import generator_pb2_grpc
from gannet_gateway import clients
from gannet_gateway.answers.events import Completed, Delta
from gannet_service import call
from gannet_service.call import Call, Principal
from gannet_service.errors import GannetError

STALLS = "stall"
WAIT_S = 30.0


class ScriptedGenerator(generator_pb2_grpc.GeneratorServicer):
    """Two generators: "quotes" and "free"; each plays its script of messages, statuses and stalls."""

    def __init__(self) -> None:
        self.scripts: dict[str, Sequence[Any]] = {}
        self.in_work = 0
        self._changed = threading.Condition()

    def Info(self, request: Any, context: Any) -> pb.InfoResponse:  # noqa: ARG002, N802
        """Both, with digests."""
        models = [
            pb.GeneratorInfo(name="quotes", kind="extractive", model="q", model_digest="q"),
            pb.GeneratorInfo(name="free", kind="decoder", model="f", model_digest="f", free_text=True),
        ]
        return pb.InfoResponse(generators=models, claims_max=3, verify_threshold=0.5)

    def Verify(self, request: pb.VerifyRequest, context: Any) -> pb.VerifyResponse:  # noqa: ARG002, N802
        """Claims of an even length are supported by the first bytes of the first source."""
        verdicts = []
        for claim in request.claims:
            supported = len(claim) % 2 == 0
            span = pb.SourceSpan(source_index=0, start_byte=0, end_byte=5)
            verdicts.append(pb.Verdict(score=0.9, supported=supported, spans=[pb.ScoredSpan(span=span, score=0.9)]))
        return pb.VerifyResponse(verdicts=verdicts, tokens_read=1)

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:  # noqa: N802
        """The script of the generator that was asked for."""
        self._count(1)
        try:
            for step in self.scripts[request.generator]:
                if step == STALLS:
                    gone = threading.Event()
                    if context.add_callback(gone.set):
                        gone.wait(WAIT_S)
                    return
                if isinstance(step, grpc.StatusCode):
                    context.abort(step, "scripted")
                yield step
        finally:
            self._count(-1)

    def wait_idle(self) -> bool:
        """Whether nothing is generated any more, within a bound."""
        with self._changed:
            return self._changed.wait_for(lambda: self.in_work == 0, WAIT_S)

    def _count(self, change: int) -> None:
        with self._changed:
            self.in_work += change
            self._changed.notify_all()


@pytest.fixture(scope="module")
def scripted() -> Iterator[tuple[ScriptedGenerator, str]]:
    """The generator, and where it listens."""
    servicer = ScriptedGenerator()
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    generator_pb2_grpc.add_GeneratorServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(grace=None).wait()


def delta(text: str) -> pb.GenerateResponse:
    """A piece of text."""
    return pb.GenerateResponse(delta=pb.Delta(text=text))


def finished(reason: int) -> pb.GenerateResponse:
    """The last word."""
    return pb.GenerateResponse(finished=pb.Finished(reason=reason, generator="g", model="m"))


STEPS = st.lists(
    st.sampled_from(["It dives. ", "No", "[1]", " [", "2] ", "NO_ANSWER", "Čaj 日本. "]).map(delta)
    | st.builds(
        lambda start, end: pb.GenerateResponse(
            citation=pb.Citation(
                start_byte=start, end_byte=end, sources=[pb.SourceSpan(source_index=1, start_byte=0, end_byte=5)]
            )
        ),
        st.integers(0, 6),
        st.integers(0, 12),
    )
    | st.sampled_from([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL])
    | st.sampled_from([pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH, pb.FINISH_REASON_NO_ANSWER]).map(finished),
    max_size=8,
)


async def answered(
    target: str, names: tuple[str, ...], *, take: int | None = None, timeout_s: float = WAIT_S
) -> tuple[list[Any], GannetError | None]:
    """The events of one answer by these generators, and the error at its end; the client may leave after `take` events."""
    principal = Principal(tenant="acme", credential="k")
    call.set_current(Call(method="t", request_id="r", deadline=time.monotonic() + timeout_s, principal=principal))
    generator = clients.Generator(target, timeout_s=WAIT_S)
    events: list[Any] = []
    error: GannetError | None = None
    made = answerer(generator, Search(), generator_failures_max=1000)
    try:
        async with contextlib.aclosing(made.stream(question(generators=names))) as stream:
            async for event in stream:
                events.append(event)
                if len(events) == take:
                    break
    except GannetError as raised:
        error = raised
    await generator.channel.close()
    return events, error


@settings(max_examples=60, deadline=None)
@given(quotes=STEPS, free=STEPS, names=st.permutations(["quotes", "free"]), take=st.none() | st.integers(1, 6))
def test_answer_over_a_generator_that_does_what_it_likes_keeps_every_invariant(
    scripted: tuple[ScriptedGenerator, str],
    *,
    quotes: list[Any],
    free: list[Any],
    names: list[str],
    take: int | None,
):
    """On the wire: one outcome, deltas that add up, citations inside of both texts, and nothing generated for a client that left."""
    servicer, target = scripted
    servicer.scripts = {"quotes": quotes, "free": free}
    events, error = asyncio.run(answered(target, tuple(names), take=take))
    check_invariants(events, error, left=len(events) == take)
    assert servicer.wait_idle()


async def test_generator_that_stalls_is_stopped_by_the_client_who_leaves(scripted: tuple[ScriptedGenerator, str]):
    """Its call ends, which it sees at once."""
    servicer, target = scripted
    servicer.scripts = {"free": [delta("It dives. It "), STALLS]}
    events, error = await answered(target, ("free",), take=3)
    assert (error, [event.text for event in events if isinstance(event, Delta)]) == (None, ["It dives. It"])
    assert servicer.wait_idle()


async def test_generator_that_stalls_is_stopped_by_the_deadline(scripted: tuple[ScriptedGenerator, str]):
    """What was said stands, and the status is the deadline's; no other generator goes on."""
    servicer, target = scripted
    servicer.scripts = {"free": [delta("It dives. It "), STALLS], "quotes": [delta("x"), finished(1)]}
    events, error = await answered(target, ("free", "quotes"), timeout_s=1.0)
    assert error is not None
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not [event for event in events if isinstance(event, Completed)]
    assert servicer.wait_idle()


async def test_generator_without_a_first_word_leaves_the_next_one_time(scripted: tuple[ScriptedGenerator, str]):
    """Half of what is left is its share; then it is stopped, and the next one answers."""
    servicer, target = scripted
    servicer.scripts = {"free": [STALLS], "quotes": [delta("It dives."), finished(1)]}
    events, error = await answered(target, ("free", "quotes"), timeout_s=4.0)
    assert error is None
    assert events[-1].text == "It dives."
    assert servicer.wait_idle()
