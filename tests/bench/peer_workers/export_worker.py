"""Writes the ONNX files that Infinity and fastembed users have: optimum's export, with a mask, optimised and quantised."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from line_protocol import serve


def export(folder: str, kind: str) -> dict[str, Any]:
    """From a model folder in Hugging Face's layout to `folder/{model,model_optimized,model_quantized}.onnx`.

    Args:
        folder: holds config.json, model.safetensors and the tokenizer.
        kind: FeatureExtraction or SequenceClassification.
    """
    onnx: Any = import_module("torch.onnx")
    # optimum 1.24 is written for the exporter that was the default then.
    onnx.export = partial(onnx.export, dynamo=False)
    optimum: Any = import_module("optimum.onnxruntime")
    settings: Any = import_module("optimum.onnxruntime.configuration")
    model = getattr(optimum, f"ORTModelFor{kind}").from_pretrained(folder, export=True)
    plain = str(Path(folder) / "fp32")
    model.save_pretrained(plain)
    optimum.ORTOptimizer.from_pretrained(model).optimize(
        save_dir=str(Path(folder) / "optimised"),
        optimization_config=settings.OptimizationConfig(optimization_level=2),
    )
    optimum.ORTQuantizer.from_pretrained(plain).quantize(
        save_dir=str(Path(folder) / "int8"),
        quantization_config=settings.AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True),
    )
    return {}


serve({"export": export})
