"""8-bit weights for an ONNX graph."""

import logging
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic


def quantise(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Quantises matrix products: weights to int8 per output channel, activations to uint8 per tensor while it runs.

    Embedding tables stay in float32: they cost memory but no time, and one scale for 30,000 rows would cost quality.
    The weights are full-range int8. On CPUs without VNNI instructions pairs of products can saturate; there, use fp32.
    """
    # ONNX Runtime's advice to pre-process concerns shape inference for static quantisation and fusions; it goes to the
    # root logger, which is not ours to configure.
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "model.onnx"
            quantize_dynamic(
                graph, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"]
            )
            return onnx.load(target)
    finally:
        logging.disable(logging.NOTSET)
