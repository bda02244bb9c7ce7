"""The generator that writes: messages through the model's chat template into a decoder, its chunks as events."""

import asyncio
import contextlib
import dataclasses
import math
import secrets
import sys
from collections.abc import AsyncGenerator, Generator, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge

from gannet_generator.config import GeneratorConfig
from gannet_generator.generation import (
    Delta,
    Description,
    Event,
    Finished,
    Message,
    Request,
    Sampling,
    TokenCounts,
    TokenLogprob,
    Usage,
)
from gannet_inference.decoder import chat, request
from gannet_inference.decoder.model import Decoder, DecoderSettings
from gannet_inference.errors import DeadlinePassed, DeviceUnavailable, ModelError, QueueFull
from gannet_inference.manifest import load_manifest
from gannet_inference.session import cores_available
from gannet_service import call
from gannet_service.config import EXIT_CONFIG
from gannet_service.errors import DeadlineTooShort, InvalidInput, Overloaded

# What the decoder calls what the contract calls otherwise.
_FIELDS = {"tokens_max": "max_tokens", "tokens_min": "min_tokens", "prompt": "messages"}
_SEED_BITS = 63


class DecoderGenerator:
    """Answers with an ONNX decoder in this process."""

    def __init__(self, decoder: Decoder, *, tokens_max: int, temperature: float) -> None:
        """Takes over the decoder and starts it; needs a running event loop.

        Args:
            decoder: the model.
            tokens_max: of an answer whose request does not say, and of any.
            temperature: of a request that does not say.
        """
        self._decoder = decoder
        self._temperature = temperature
        self.description = Description(
            kind="decoder",
            model=decoder.name,
            model_digest=decoder.digest,
            precision=decoder.precision,
            context_tokens_max=decoder.context_tokens,
            tokens_max=min(tokens_max, decoder.context_tokens - 1),
        )
        decoder.start()

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Answer the messages; closing the iterator frees the slot before the next token.

        Raises:
            InvalidInput: the prompt does not fit beside the answer, or the chat template refuses the messages.
            Overloaded: too many wait, or a slot would be free only after the caller's deadline.
            DeadlineTooShort: the deadline passed.
            ModelFailure: the model failed.
        """
        seed = request.sampling.seed if request.sampling.seed is not None else secrets.randbits(_SEED_BITS)
        with _refusals():
            prompt = await asyncio.to_thread(self._decoder.prompt, _turns(request.messages))
            asked = self._request(request, prompt, seed)
            async with contextlib.aclosing(self._decoder.generate(asked)) as chunks:
                async for chunk in chunks:
                    ids, logprobs = self._tokens(chunk, told=request.logprobs is not None)
                    if chunk.text:
                        yield Delta(text=chunk.text, token_ids=ids, logprobs=logprobs)
                        ids, logprobs = (), ()
                    if chunk.finished is not None:
                        finished = self._finished(chunk.finished, seed)
                        yield dataclasses.replace(finished, token_ids=ids, logprobs=logprobs)

    async def count_tokens(self, messages: Sequence[Message], texts: Sequence[str]) -> TokenCounts:
        """In the model's own tokens, special ones of the chat template included.

        Raises:
            InvalidInput: the chat template refuses the messages.
        """
        with _refusals():
            prompt = len(await asyncio.to_thread(self._decoder.prompt, _turns(messages))) if messages else 0
        return TokenCounts(prompt=prompt, texts=await asyncio.to_thread(self._decoder.count, texts), exact=True)

    async def close(self) -> None:
        """Fail what is left and end the model's thread."""
        await self._decoder.close()

    def _request(self, asked: Request, prompt: NDArray[np.int64], seed: int) -> request.DecodeRequest:
        room = self._decoder.context_tokens - len(prompt)
        if room < 1:
            raise InvalidInput(
                f"messages: {len(prompt)} tokens, must be fewer than {self._decoder.context_tokens} to leave room for an answer",
                field="messages",
                reason="TEXT_TOO_LONG",
            )
        # Without a wish of its own an answer takes what room there is; one that names a length is told where it does not fit.
        tokens_max = asked.tokens_max or max(min(self.description.tokens_max, room), asked.tokens_min)
        deadline_s = call.deadline_s()
        return request.DecodeRequest(
            prompt=prompt,
            tokens_max=tokens_max,
            tokens_min=asked.tokens_min,
            sampling=self._sampling(asked.sampling, seed),
            stop=tuple(asked.stop),
            logprobs=-1 if asked.logprobs is None else asked.logprobs,
            ends_at_s=math.inf if deadline_s is None else deadline_s,
        )

    def _sampling(self, asked: Sampling, seed: int) -> request.Sampling:
        defaults = request.Sampling(temperature=self._temperature, seed=seed)
        return request.Sampling(
            temperature=_or(asked.temperature, defaults.temperature),
            top_k=int(_or(asked.top_k, defaults.top_k)),
            top_p=_or(asked.top_p, defaults.top_p),
            min_p=_or(asked.min_p, defaults.min_p),
            repetition_penalty=_or(asked.repetition_penalty, defaults.repetition_penalty),
            presence_penalty=_or(asked.presence_penalty, defaults.presence_penalty),
            frequency_penalty=_or(asked.frequency_penalty, defaults.frequency_penalty),
            seed=seed,
        )

    def _tokens(self, chunk: request.Chunk, *, told: bool) -> tuple[tuple[int, ...], tuple[TokenLogprob, ...]]:
        ids = tuple(token.id for token in chunk.tokens)
        return ids, tuple(self._logprob(token) for token in chunk.tokens) if told else ()

    def _logprob(self, token: request.Token) -> TokenLogprob:
        spell = self._decoder.token_bytes
        top = tuple(TokenLogprob(token=spell(one), token_id=one, logprob=logprob) for one, logprob in token.top)
        return TokenLogprob(token=spell(token.id), token_id=token.id, logprob=token.logprob, top=top)

    def _finished(self, finished: request.Finished, seed: int) -> Finished:
        return Finished(
            reason=finished.reason,
            model=self.description.model,
            queue_s=finished.queue_s,
            usage=Usage(prompt_tokens=finished.prompt_tokens, completion_tokens=finished.tokens),
            seed=seed,
        )


def _turns(messages: Sequence[Message]) -> list[chat.Message]:
    return [chat.Message(role=message.role, content=message.content) for message in messages]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


@contextlib.contextmanager
def _refusals() -> Generator[None]:
    """Says the decoder's refusals in the words of the contract."""
    try:
        yield
    except request.InvalidRequest as error:
        field = _FIELDS.get(error.field, error.field)
        raise InvalidInput(str(error).replace(error.field, field, 1), field=field) from error
    except QueueFull as error:
        raise Overloaded(str(error), retry_after_s=error.retry_after_s) from error
    except DeadlinePassed as error:
        raise DeadlineTooShort("the deadline passed while the answer was written") from error


async def open_decoder(config: GeneratorConfig) -> DecoderGenerator:
    """The decoder that the configuration names; ends the process where it cannot be had. Needs a running event loop."""
    settings = DecoderSettings(
        slots_max=config.decoder_slots,
        context_tokens=config.decoder_context_tokens,
        cache_bytes_max=config.decoder_cache_mib << 20,
        prefix_bytes_max=config.decoder_prefix_mib << 20,
        prefill_tokens=config.decoder_prefill_tokens,
        queue_max=config.decoder_queue_max,
        threads=config.decoder_threads or cores_available(),
        spin=config.decoder_spin,
        gpu_index=config.decoder_gpu if config.decoder_device == "cuda" else None,
    )
    try:
        entry = load_manifest(config.manifest).entry(config.decoder_model)
        decoder = await asyncio.to_thread(Decoder.open, entry, config.models_dir, settings)
    except (ModelError, DeviceUnavailable) as error:
        print(f"generator: {error}", file=sys.stderr)  # noqa: T201 - for who starts it
        raise SystemExit(EXIT_CONFIG) from error
    Gauge("gannet_decoder_waiting", "Requests that wait for a slot of the decoder.").set_function(
        lambda: decoder.waiting
    )
    Gauge("gannet_decoder_slots_used", "Slots of the decoder that are taken.").set_function(lambda: decoder.in_work)
    return DecoderGenerator(decoder, tokens_max=config.decoder_tokens_max, temperature=config.decoder_temperature)
