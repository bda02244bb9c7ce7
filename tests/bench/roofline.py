"""How fast the int8 matrix products of an encoder alone could run: the bound that int8 figures are held against.

    python tests/bench/roofline.py

Prints tokens a second for the built-in embedder at several lengths, one text a run, one thread.
"""

import statistics
import time
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from gannet_inference.weights import Architecture

WARM_RUNS = 5
RUN_S = 0.6


def int8_roofline_tokens_per_s(architecture: Architecture, tokens: int, threads: int = 1) -> float:
    """Runs the products of activations with weights, u8·s8 to s32, and nothing else, in the model's order and shapes.

    No quantising, no scaling, no attention between positions: no int8 encoder on this runtime can be faster.

    Args:
        architecture: whose shapes; its inner layers are taken to be 4 times as wide as the others.
        tokens: of one text, one text a run.
        threads: of the one run.

    Returns:
        Tokens a second by the median run.
    """
    session = _session(products(architecture), threads)
    random = np.random.default_rng(0)
    feeds = {
        name: random.integers(0, 255, (tokens, width), dtype=np.uint8)
        for name, width in (("narrow", architecture.hidden), ("wide", 4 * architecture.hidden))
    }
    for _ in range(WARM_RUNS):
        session.run(None, feeds)
    runs_s: list[float] = []
    while sum(runs_s) < RUN_S:
        started = time.perf_counter()
        session.run(None, feeds)
        runs_s.append(time.perf_counter() - started)
    return tokens / statistics.median(runs_s)


def products(architecture: Architecture) -> onnx.ModelProto:
    """The graph: every layer has weights of its own, as in a model, so that they come from memory as they do there."""
    hidden, inner = architecture.hidden, 4 * architecture.hidden
    shapes = [("narrow", 3 * hidden), ("narrow", hidden), ("narrow", inner), ("wide", hidden)] * architecture.layers
    widths = {"narrow": hidden, "wide": inner}
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights = [numpy_helper.from_array(np.array([at], dtype=np.int64), f"i_{at}") for at in (0, 1)]
    outputs: list[onnx.ValueInfoProto] = []
    for number, (source, width) in enumerate(shapes):
        weight = random.integers(-127, 128, (widths[source], width), dtype=np.int8)
        weights.append(numpy_helper.from_array(weight, f"weight_{number}"))
        nodes.append(helper.make_node("MatMulInteger", [source, f"weight_{number}"], [f"product_{number}"]))
        # One row leaves the graph, so that no product is left out and its memory is used again by the next.
        nodes.append(helper.make_node("Slice", [f"product_{number}", "i_0", "i_1", "i_0"], [f"row_{number}"]))
        outputs.append(helper.make_tensor_value_info(f"row_{number}", TensorProto.INT32, [1, width]))
    inputs = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["tokens", widths[name]]) for name in widths]
    graph = helper.make_graph(nodes, "products", inputs, outputs, weights)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def _session(model: onnx.ModelProto, threads: int) -> Any:
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


# The shape of all-MiniLM-L6-v2, which the built-in embedder and reranker have.
MINILM_L6 = Architecture(
    layers=6, heads=12, hidden=384, epsilon=1e-12, gelu="none", first_position=0, tokens_max=512, prefix="bert."
)


def main() -> None:
    """Print the bound for the built-in embedder."""
    for tokens in (16, 64, 128, 256):
        print(f"{tokens:4d} tokens: {int8_roofline_tokens_per_s(MINILM_L6, tokens):8.0f} tokens/s")


if __name__ == "__main__":
    main()
