"""Deliberate breaks of the decoder: who is in which slot, what is told of a text, how tokens are chosen."""

from mutation import INFERENCE, KERNEL, one

DECODER = f"{INFERENCE}/decoder"
GENERATOR = "services/generator/src/gannet_generator"
TESTS = "tests/unit/inference/decoder"
ENGINE = f"{TESTS}/test_engine.py"
GRAPHS = f"{TESTS}/test_graphs.py"
TEXT = f"{TESTS}/test_text.py"
OPENING = f"{TESTS}/test_opening.py"
MEMORY = f"{TESTS}/test_memory.py"
CHAT = f"{TESTS}/test_chat.py"
SAMPLING = "tests/unit/kernels/test_sampling.py"
WRITING = "tests/unit/generator/test_decoding.py"

DECODING = (
    one(
        "a cancelled stream frees its slot",
        ENGINE,
        f"{DECODER}/engine.py",
        "                self.slots.leave(stream)\n                dead.append(stream)\n",
        "                dead.append(stream)\n",
    ),
    one(
        "a stream whose deadline passed frees its slot",
        ENGINE,
        f"{DECODER}/stream.py",
        "self.is_cancelled or now_s >= self.request.ends_at_s",
        "self.is_cancelled",
    ),
    one(
        "nothing is told of a cancelled stream",
        ENGINE,
        f"{DECODER}/engine.py",
        " for stream in dead if not stream.is_cancelled]",
        " for stream in dead]",
    ),
    one(
        "a stream that is moved takes its keys along",
        ENGINE,
        f"{DECODER}/slots.py",
        "            self._cache.move(source, target, stream.past)\n",
        "",
    ),
    one(
        "a stream that is moved takes its penalties along",
        GRAPHS,
        f"{DECODER}/slots.py",
        "            self._sampler.move(source, target)\n",
        "",
    ),
    one(
        "the queue in front of the decoder is bounded",
        ENGINE,
        f"{DECODER}/engine.py",
        "if len(self._waiting) >= self._limits.queue_max:",
        "if False:",
    ),
    one(
        "a long prompt is read in pieces",
        ENGINE,
        f"{DECODER}/engine.py",
        "stream.past + self._limits.prefill_tokens]",
        "len(prompt)]",
    ),
    one(
        "prompt and answer fit into a slot",
        ENGINE,
        f"{DECODER}/engine.py",
        "len(prompt) + request.tokens_max > self._positions",
        "len(prompt) > self._positions",
    ),
    one(
        "tokens_min puts the end off",
        ENGINE,
        f"{DECODER}/sampler.py",
        "            logits[self._ends] = -np.inf\n",
        "            pass\n",
    ),
    one(
        "a failing model frees the slots",
        ENGINE,
        f"{DECODER}/engine.py",
        "            self.slots.leave(stream)\n            self._news.append((stream, Chunk(error=error)))",
        "            self._news.append((stream, Chunk(error=error)))",
    ),
    one(
        "the beginning of a stop string is held back",
        TEXT,
        f"{DECODER}/text.py",
        "held = max(_overlap(text, stop) for stop in self._stops)",
        "held = 0",
    ),
    one(
        "what was held back is told when the text ends otherwise",
        ENGINE,
        f"{DECODER}/stream.py",
        'self._finish(self._stops.flush(), "stop")',
        'self._finish("", "stop")',
    ),
    one("half a character is held back", TEXT, f"{DECODER}/text.py", "text.endswith(_REPLACEMENT) and", "False and"),
    one(
        "rows of an Optimum graph see their own past alone",
        GRAPHS,
        f"{DECODER}/runner.py",
        "else past[:, None]\n",
        "else np.full((len(past), 1), total)\n",
    ),
    one(
        "log probabilities are the model's own",
        GRAPHS,
        f"{DECODER}/sampler.py",
        "self._logits = logits.copy()",
        "self._logits = logits",
    ),
    one(
        "a block counts for the head before it alone",
        MEMORY,
        f"{DECODER}/prefixes.py",
        "blake2b(key + prompt[",
        "blake2b(prompt[",
    ),
    one("a prompt's last token is always run", GRAPHS, f"{DECODER}/prefixes.py", "_keys(prompt[:-1])", "_keys(prompt)"),
    one(
        "known prompt heads are bounded in bytes",
        MEMORY,
        f"{DECODER}/prefixes.py",
        "while self.bytes_held > self._bytes_max:",
        "while False:",
    ),
    one(
        "special tokens in a message mean nothing",
        CHAT,
        f"{DECODER}/chat.py",
        "self._plain(message.content)",
        "message.content",
    ),
    one(
        "a chat template runs in a sandbox",
        CHAT,
        f"{DECODER}/chat.py",
        "jinja2.sandbox.ImmutableSandboxedEnvironment(",
        "jinja2.Environment(",
    ),
    one("a prompt's size is bounded", CHAT, f"{DECODER}/chat.py", "if size > PROMPT_CHARS_MAX:", "if False:"),
    one(
        "a draw depends on its own seed",
        SAMPLING,
        f"{KERNEL}/sampling.py",
        "uniform(seeds[row], positions[row])",
        "uniform(seeds[0], positions[row])",
    ),
    one(
        "a draw depends on the token's number",
        SAMPLING,
        f"{KERNEL}/sampling.py",
        "uniform(seeds[row], positions[row])",
        "uniform(seeds[row], 0)",
    ),
    one(
        "top-p counts the weight that top-k left",
        SAMPLING,
        f"{KERNEL}/sampling.py",
        "mass >= top_p * total) or",
        "mass >= top_p) or",
    ),
    one(
        "presence counts the answer alone",
        SAMPLING,
        f"{KERNEL}/sampling.py",
        "        if times > 0:\n",
        "        if True:\n",
    ),
    one(
        "NaN is noticed, not sampled from",
        SAMPLING,
        f"{KERNEL}/sampling.py",
        "        if not np.isfinite(top):\n",
        "        if False:\n",
    ),
    one(
        "closing an answer frees its slot",
        WRITING,
        f"{DECODER}/model.py",
        "            self._engine.cancel(stream)\n",
        "",
    ),
    one(
        "the seed that was drawn is told",
        WRITING,
        f"{GENERATOR}/decoding.py",
        "self._finished(chunk.finished, seed)",
        "self._finished(chunk.finished, 0)",
    ),
    one(
        "a token without text is told",
        WRITING,
        f"{GENERATOR}/decoding.py",
        "dataclasses.replace(finished, token_ids=ids, logprobs=logprobs)",
        "finished",
    ),
    one(
        "whoever leaves takes the mailbox along",
        WRITING,
        f"{DECODER}/model.py",
        "            del self._mailboxes[stream]\n",
        "",
    ),
    one(
        "a head's bias leaves the logits of the last position alone",
        OPENING,
        f"{DECODER}/head.py",
        ' or node.op_type == "Add"',
        "",
    ),
    one(
        "of the tokens at top-p's limit only those that are needed are kept",
        SAMPLING,
        f"{KERNEL}/sampling.py",
        "            weights[token] = np.float32(0.0)\n",
        "            pass\n",
    ),
    one(
        "the search for top-p's limit never passes it",
        SAMPLING,
        f"{KERNEL}/sampling.py",
        "        if mass >= mass_max:\n",
        "        if mass >= 0.8 * mass_max:\n",
    ),
    one(
        "the caller's deadline is the decoder's",
        WRITING,
        f"{GENERATOR}/decoding.py",
        "math.inf if deadline_s is None else deadline_s",
        "math.inf",
    ),
)
