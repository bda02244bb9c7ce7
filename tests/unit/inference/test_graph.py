"""Our ONNX graphs against a naive NumPy forward pass, and the refusal of models that would not fit."""

import json

import numpy as np
import onnx
import pytest
from reference import bert, pooling
from reference import tiny_model as tiny
from safetensors.numpy import save_file

from gannet_inference.encoder import BiEncoder, CrossEncoder
from gannet_inference.errors import BadWeights, UnsupportedModel
from gannet_inference.manifest import Adapter
from gannet_inference.store import ensure_built
from gannet_inference.tokens import TokenIds

IDS, TYPES = [2, 4, 5, 9, 3, 6, 7, 3], [0, 0, 0, 0, 0, 1, 1, 1]
SHAPE = {"heads": tiny.HEADS, "epsilon": 1e-12}


def _tokens(ids, types):
    return TokenIds(ids=np.array(ids), type_ids=np.array(types), truncated=False)


def _vector(entry, models_dir, *, precision="fp32"):
    encoder = BiEncoder.open(ensure_built(entry, precision, models_dir), sessions=1)
    try:
        return encoder.encode(_tokens(IDS, TYPES))
    finally:
        encoder.close()


def _logit(entry, models_dir, ids, types):
    encoder = CrossEncoder.open(ensure_built(entry, None, models_dir), sessions=1)
    try:
        return encoder.score(_tokens(ids, types))
    finally:
        encoder.close()


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_bi_encoder_graph_equals_naive_forward(tiny_model, tmp_path, prefix):
    """The vector is the pooled output of the reference, with and without the task models' prefix."""
    entry = tiny_model(weights=tiny.random_weights(prefix), normalise=False)

    hidden = bert.encode(tiny.random_weights(), IDS, TYPES, **SHAPE)
    expected = pooling.mean_pool(hidden, np.ones(len(IDS)), normalise=False)
    np.testing.assert_allclose(_vector(entry, tmp_path), expected, atol=1e-5)


def test_bi_encoder_cls_pooling_takes_the_first_token(tiny_model, tmp_path):
    """Pooling "cls" is the first token's embedding, scaled to length 1."""
    hidden = bert.encode(tiny.random_weights(), IDS, TYPES, **SHAPE)

    vector = _vector(tiny_model(pooling="cls"), tmp_path)

    np.testing.assert_allclose(vector, hidden[0] / np.linalg.norm(hidden[0]), atol=1e-5)


def test_cross_encoder_graph_equals_naive_forward(tiny_model, tmp_path):
    """The logit is that of the reference's pooler and classifier."""
    entry = tiny_model(weights=tiny.random_weights("bert."), kind="cross-encoder")

    weights = tiny.random_weights()
    hidden = bert.encode(weights, IDS, TYPES, **SHAPE)
    expected = bert.classify(weights, hidden, dense="pooler.dense", out="classifier")
    assert _logit(entry, tmp_path, IDS, TYPES) == pytest.approx(expected, abs=1e-5)


def test_roberta_graph_counts_positions_from_the_padding_id(tiny_model, tmp_path):
    """RoBERTa reads positions from pad_token_id + 1 on and has its own classification head."""
    weights = tiny.random_weights("roberta.")
    entry = tiny_model(config={"model_type": "xlm-roberta"}, weights=weights, kind="cross-encoder")

    weights = {name.removeprefix("roberta."): tensor for name, tensor in weights.items()}
    hidden = bert.encode(weights, IDS, TYPES, first_position=2, **SHAPE)
    expected = bert.classify(weights, hidden, dense="classifier.dense", out="classifier.out_proj")
    assert _logit(entry, tmp_path, IDS, TYPES) == pytest.approx(expected, abs=1e-5)


def test_int8_graph_stays_close_to_fp32(tiny_model, tmp_path):
    """Quantised weights turn a vector by a few degrees at most, even at random weights."""
    cosine = _vector(tiny_model(), tmp_path) @ _vector(tiny_model(), tmp_path, precision="int8")

    assert 0.99 < cosine < 0.999999


def test_onnx_export_is_taken_as_it_is(tiny_model, tmp_path):
    """An existing export gives the same vector as the graph it holds, without safetensors in the folder."""
    entry = tiny_model()
    built = ensure_built(entry, "fp32", tmp_path)
    expected = _vector(entry, tmp_path)
    (tmp_path / "tiny" / "onnx").mkdir()
    built.model_file.rename(tmp_path / "tiny" / "onnx" / "model.onnx")
    (tmp_path / "tiny" / "model.safetensors").unlink()

    vector = _vector(_as_onnx(entry), tmp_path)

    np.testing.assert_array_equal(vector, expected)


def _as_onnx(entry):
    """The same entry, read from its ONNX export."""
    return entry.model_copy(update={"format": "onnx"})


def _save_export(folder, output):
    """A foreign export: a table look-up that multiplies by its attention mask, with a pooled output beside."""
    table = np.random.default_rng(3).normal(size=(len(tiny.WORDS), tiny.HIDDEN)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        onnx.helper.make_node("Cast", ["attention_mask"], ["mask"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Unsqueeze", ["mask", "axes"], ["column"]),
        onnx.helper.make_node("Mul", ["words", "column"], [output]),
        onnx.helper.make_node("ReduceMean", [output], ["sentence_embedding"]),
    ]
    values = {"table": table, "axes": np.array([2])}
    graph = onnx.helper.make_graph(
        nodes,
        "export",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [onnx.helper.make_empty_tensor_value_info(name) for name in ("sentence_embedding", output)],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[opset]), folder / "model.onnx")
    return table


def test_onnx_export_gets_the_inputs_that_it_asks_for(tiny_model, tmp_path):
    """An attention mask is fed where the export has one, and token embeddings are found beside a pooled output."""
    entry = _as_onnx(tiny_model(normalise=False))
    table = _save_export(tmp_path / "tiny", "token_embeddings")

    np.testing.assert_allclose(_vector(entry, tmp_path), table[IDS].mean(axis=0), atol=1e-6)


def test_onnx_export_of_another_kind_is_refused(tiny_model, tmp_path):
    """Token embeddings where a logit is expected are refused by their shape."""
    entry = _as_onnx(tiny_model(kind="cross-encoder"))
    _save_export(tmp_path / "tiny", "token_embeddings")

    with pytest.raises(UnsupportedModel, match=r"output of shape \(5, 16\) does not fit a cross-encoder"):
        ensure_built(entry, None, tmp_path)


def test_onnx_export_in_fp16_is_refused(tiny_model, tmp_path):
    """An export's weights are what they are: fp16 is written from safetensors only."""
    entry = _as_onnx(tiny_model())
    _save_export(tmp_path / "tiny", "token_embeddings")

    with pytest.raises(UnsupportedModel, match="fp16 is written from safetensors"):
        ensure_built(entry, "fp16", tmp_path)


def test_onnx_export_without_a_known_output_is_refused(tiny_model, tmp_path):
    """The refusal lists the outputs that there are."""
    entry = _as_onnx(tiny_model())
    _save_export(tmp_path / "tiny", "word_vectors")

    with pytest.raises(UnsupportedModel, match="word_vectors"):
        ensure_built(entry, None, tmp_path)


def _write_adapter(folder, config=None):
    random = np.random.default_rng(5)
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "use_rslora": False}
    (folder / "adapter_config.json").write_text(json.dumps(settings | (config or {})), encoding="utf-8")
    name = "base_model.model.bert.encoder.layer.1.attention.self.value"
    tensors = {
        f"{name}.lora_A.weight": random.normal(size=(2, tiny.HIDDEN)),
        f"{name}.lora_B.weight": random.normal(size=(tiny.HIDDEN, 2)),
        "base_model.model.classifier.bias": np.array([4.0]),
    }
    tensors = {key: tensor.astype(np.float16) for key, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return tensors


def test_lora_adapter_is_merged_by_its_equation(tiny_model, tmp_path):
    """W + (alpha/r)·B·A, with the classifier's bias replaced by the adapter's."""
    tensors = _write_adapter(tmp_path / "adapter")
    adapter = Adapter(folder=tmp_path / "adapter", digests={})
    entry = tiny_model(weights=tiny.random_weights("bert."), kind="cross-encoder", adapter=adapter)

    weights = tiny.random_weights()
    shrink, expand, bias = (tensor.astype(np.float64) for tensor in tensors.values())
    weights["encoder.layer.1.attention.self.value.weight"] = (
        weights["encoder.layer.1.attention.self.value.weight"] + 6 / 2 * expand @ shrink
    )
    weights["classifier.bias"] = bias
    hidden = bert.encode(weights, IDS, TYPES, **SHAPE)
    expected = bert.classify(weights, hidden, dense="pooler.dense", out="classifier")
    assert _logit(entry, tmp_path, IDS, TYPES) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("config", [{"use_dora": True}, {"alpha_pattern": {"x": 1}}, {"peft_type": "IA3"}, {"r": 0}])
def test_lora_adapter_of_another_kind_is_refused(tiny_model, tmp_path, config):
    """An adapter that merges by another formula is refused by the key that says so."""
    _write_adapter(tmp_path / "adapter", config)
    entry = tiny_model(kind="cross-encoder", adapter=Adapter(folder=tmp_path / "adapter", digests={}))

    with pytest.raises(UnsupportedModel, match=r"adapter_config\.json"):
        ensure_built(entry, None, tmp_path)


def test_lora_adapter_that_does_not_fit_is_refused(tiny_model, tmp_path):
    """An adapter for a layer that the model does not have is refused, not skipped."""
    _write_adapter(tmp_path / "adapter")
    entry = tiny_model(
        config={"num_hidden_layers": 1},
        weights={name: tensor for name, tensor in tiny.random_weights().items() if ".layer.1." not in name},
        kind="cross-encoder",
        adapter=Adapter(folder=tmp_path / "adapter", digests={}),
    )

    with pytest.raises(BadWeights, match=r"layer\.1\.attention\.self\.value: does not fit"):
        ensure_built(entry, None, tmp_path)


@pytest.mark.parametrize(
    "config,field",
    [
        ({"model_type": "t5"}, "model_type"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_attention_heads": 3}, "hidden_size"),
        ({"num_hidden_layers": None}, "config.json"),
        ({"max_position_embeddings": 8}, "tokens_max"),
    ],
)
def test_architecture_that_is_not_supported_is_refused_by_key(tiny_model, tmp_path, config, field):
    """The refusal names the key of config.json, and nothing is left in the models folder."""
    with pytest.raises(UnsupportedModel, match=field):
        ensure_built(tiny_model(config=config), None, tmp_path / "models")

    assert [path for path in (tmp_path / "models" / "tiny").iterdir() if path.is_dir()] == []


def test_weights_with_nan_are_refused(tiny_model, tmp_path):
    """A NaN weight is refused by the tensor's name."""
    weights = tiny.random_weights()
    weights["encoder.layer.0.output.dense.bias"][3] = np.nan

    with pytest.raises(BadWeights, match=r"encoder\.layer\.0\.output\.dense\.bias: holds NaN"):
        ensure_built(tiny_model(weights=weights), None, tmp_path)


@pytest.mark.parametrize("shape", [None, (3, 3)])
def test_weights_missing_or_misshapen_are_refused(tiny_model, tmp_path, shape):
    """A tensor that is not there, or has another shape, is refused by its name."""
    weights = tiny.random_weights()
    name = "encoder.layer.1.attention.self.query.weight"
    weights.pop(name)
    if shape:
        weights[name] = np.zeros(shape, dtype=np.float32)

    with pytest.raises(BadWeights, match=name.replace(".", r"\.")):
        ensure_built(tiny_model(weights=weights), None, tmp_path)


def test_weights_file_that_is_no_safetensors_is_refused(tiny_model, tmp_path):
    """Garbage is refused as such."""
    entry = tiny_model()
    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"garbage")

    with pytest.raises(BadWeights, match=r"model\.safetensors"):
        ensure_built(entry, None, tmp_path)


def test_tokenizer_with_more_words_than_the_weights_is_refused(tiny_model, tmp_path):
    """A tokenizer of another model would read past the embedding table."""
    weights = tiny.random_weights()
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][:-1]

    with pytest.raises(UnsupportedModel, match="has 10 tokens, the weights have embeddings for 9"):
        ensure_built(tiny_model(weights=weights), None, tmp_path)


def test_tokenizer_that_is_none_is_refused(tiny_model, tmp_path):
    """Garbage is refused as such."""
    entry = tiny_model()
    (tmp_path / "tiny" / "tokenizer.json").write_text("{}", encoding="utf-8")

    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json: not a tokenizer"):
        ensure_built(entry, None, tmp_path)


def test_sentence_transformers_module_that_is_unknown_is_refused(tiny_model, tmp_path):
    """A Dense module after pooling would be left out silently."""
    entry = tiny_model()
    module = {"idx": 2, "type": "sentence_transformers.models.Dense"}
    (tmp_path / "tiny" / "modules.json").write_text(json.dumps([module]), encoding="utf-8")

    with pytest.raises(UnsupportedModel, match="has a Dense module"):
        ensure_built(entry, None, tmp_path)


def test_onnx_export_with_external_data_is_refused(tiny_model, tmp_path):
    """Weights in a second file are not among the digests, so they are refused."""
    entry = tiny_model()
    graph = onnx.load(ensure_built(entry, "fp32", tmp_path).model_file)
    onnx.save(graph, tmp_path / "tiny" / "model.onnx", save_as_external_data=True, size_threshold=0)

    with pytest.raises(UnsupportedModel, match="second file"):
        ensure_built(_as_onnx(entry), None, tmp_path)


def test_bi_encoder_named_as_cross_encoder_is_refused(tiny_model, tmp_path):
    """An encoder without a classifier cannot rerank."""
    weights = {name: tensor for name, tensor in tiny.random_weights().items() if "classifier" not in name}

    with pytest.raises(BadWeights, match=r"classifier\.weight"):
        ensure_built(tiny_model(weights=weights, kind="cross-encoder"), None, tmp_path)
