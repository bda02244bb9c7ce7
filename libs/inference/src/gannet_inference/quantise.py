"""8-bit weights for an ONNX graph."""

import tempfile
from pathlib import Path

import onnx
from onnx import helper
from onnxruntime.quantization import QuantType, quantize_dynamic


def quantise(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Quantises matrix products: weights to int8 per output channel, activations to uint8 per tensor while it runs.

    Embedding tables stay in float32: they cost memory but no time, and one scale for 30,000 rows would cost quality.
    The weights are full-range int8. On CPUs without VNNI instructions pairs of products can saturate; there, use fp32.
    """
    # Says that the graph has been through ONNX Runtime's pre-processing, which static quantisation needs and this does
    # not: without it, advice to run it goes to the root logger.
    helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        quantize_dynamic(
            graph,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            # Type inference ends at ONNX Runtime's own operators.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return onnx.load(target)
