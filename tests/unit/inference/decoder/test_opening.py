"""What a decoder's files say, and files that say nothing useful."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from reference import decoder as reference
from reference.decoder_graph import build

from gannet_inference.decoder.facts import read_facts
from gannet_inference.decoder.opening import SlotLimits, load_graph
from gannet_inference.errors import UnsupportedModel

SHAPE = reference.Shape(layers=1)
LIMITS = SlotLimits(slots_max=4, positions=64, cache_bytes_max=1 << 20, prefill_tokens=16)
ROW_BYTES = 2 * 2 * 64 * 16 * 4


def write(folder, **files) -> None:
    """JSON files by name, and an empty graph."""
    (folder / "model.onnx").touch()
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_facts_of_a_genai_folder_come_from_its_config(tmp_path):
    """The graph's name, the context and the ends of a text."""
    decoder = {"filename": "phi.onnx"}
    write(tmp_path, genai_config={"model": {"eos_token_id": [5, 7], "context_length": 4096, "decoder": decoder}})
    (tmp_path / "phi.onnx").touch()

    facts = read_facts(tmp_path, model="tiny")

    assert (facts.graph.name, facts.ends, facts.context_tokens) == ("phi.onnx", (5, 7), 4096)


def test_facts_of_an_optimum_folder_come_from_the_usual_files(tmp_path):
    """generation_config.json goes before config.json, whose end may be one of several."""
    write(
        tmp_path,
        config={"eos_token_id": 2, "max_position_embeddings": 2048},
        generation_config={"eos_token_id": [2, 3]},
        tokenizer_config={
            "chat_template": "x",
            "eos_token": {"content": "</s>"},
            "bos_token": "<s>",
            "pad_token": None,
        },
    )

    facts = read_facts(tmp_path, model="tiny")

    assert (facts.graph.name, facts.ends, facts.context_tokens) == ("model.onnx", (2, 3), 2048)
    assert facts.special_tokens == {"eos_token": "</s>", "bos_token": "<s>"}
    assert facts.chat_template == "x"


@pytest.mark.parametrize("templates", [[{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}], "d"])
def test_facts_several_templates_give_the_default(tmp_path, templates):
    """As tokenizers with templates for tools have them."""
    write(tmp_path, config={"eos_token_id": 2}, tokenizer_config={"chat_template": templates})

    assert read_facts(tmp_path, model="tiny").chat_template == "d"


def test_facts_a_template_of_its_own_file_goes_first(tmp_path):
    """Newer models keep it apart."""
    write(tmp_path, config={"eos_token_id": 2}, tokenizer_config={"chat_template": "old"})
    (tmp_path / "chat_template.jinja").write_text("new")

    assert read_facts(tmp_path, model="tiny").chat_template == "new"


@pytest.mark.parametrize(
    "files,graph,problem",
    [
        ({"config": {}}, None, "eos_token_id"),
        ({"config": {"eos_token_id": 1}}, "other.onnx", "other.onnx"),
        ({"config": [1]}, None, "config.json"),
    ],
)
def test_facts_that_are_missing_are_named(tmp_path, files, graph, problem):
    """What the user has to look at."""
    write(tmp_path, **files)

    with pytest.raises(UnsupportedModel, match=problem):
        read_facts(tmp_path, model="tiny", graph=graph)


def load(tmp_path, model: onnx.ModelProto, limits: SlotLimits = LIMITS):
    """Through a file."""
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    return load_graph(file, limits, model="tiny", threads=1, gpu_index=None)


def test_load_graph_finds_its_layout(tmp_path):
    """Heads, layers and types from the graph itself."""
    graph = load(tmp_path, build(SHAPE, reference.random_weights(SHAPE), layout="positions"))

    layout = graph.layout
    assert (layout.shared, layout.heads, layout.head, layout.vocabulary, layout.last_only) == (True, 2, 16, 300, True)
    assert layout.past == ("past_key_values.0.key", "past_key_values.0.value")
    assert set(layout.small) == {"input_ids", "attention_mask", "position_ids"}
    assert layout.cache_bytes(64) == ROW_BYTES


def test_load_graph_keeps_layers_in_their_order(tmp_path):
    """The tenth layer comes behind the ninth, not behind the first."""
    shape = reference.Shape(layers=11)
    graph = load(tmp_path, build(shape, reference.random_weights(shape)))

    assert graph.layout.past[-2:] == ("past_key_values.10.key", "past_key_values.10.value")


def test_load_graph_has_as_many_slots_as_fit(tmp_path):
    """The bytes go before the number."""
    model = build(SHAPE, reference.random_weights(SHAPE))
    limits = SlotLimits(slots_max=4, positions=64, cache_bytes_max=3 * ROW_BYTES - 1, prefill_tokens=16)

    assert load(tmp_path, model, limits).cache.slots == 2


def test_load_graph_without_room_for_one_text_is_refused(tmp_path):
    """Naming the bytes."""
    limits = SlotLimits(slots_max=4, positions=64, cache_bytes_max=ROW_BYTES - 1, prefill_tokens=16)

    with pytest.raises(UnsupportedModel, match=str(ROW_BYTES)):
        load(tmp_path, build(SHAPE, reference.random_weights(SHAPE)), limits)


def test_load_graph_with_an_input_that_nobody_feeds_is_refused(tmp_path):
    """By its name, when the model is opened."""
    model = build(SHAPE, reference.random_weights(SHAPE))
    model.graph.input.append(helper.make_tensor_value_info("use_cache_branch", onnx.TensorProto.BOOL, [1]))

    with pytest.raises(UnsupportedModel, match="use_cache_branch"):
        load(tmp_path, model)


def test_load_graph_of_an_encoder_is_refused(tmp_path):
    """It has no past."""
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("input_ids", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["input_ids"], ["logits"])], "g", ends[:1], ends[1:])

    with pytest.raises(UnsupportedModel, match="0 past_key_values"):
        load(tmp_path, helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]))


def test_load_graph_that_is_none_is_refused(tmp_path):
    """A file of something else."""
    file = tmp_path / "model.onnx"
    file.write_bytes(b"nothing")

    with pytest.raises(UnsupportedModel, match="no ONNX model"):
        load_graph(file, LIMITS, model="tiny", threads=1, gpu_index=None)


@pytest.mark.parametrize("shape", [SHAPE, reference.Shape(layers=1, phi=True, heads=2)])
def test_load_graph_computes_the_logits_of_the_last_position_alone(tmp_path, shape):
    """They are those that the whole graph gives for it; Phi's head has a bias behind its product."""
    model = build(shape, reference.random_weights(shape), bits=4)
    file = tmp_path / "whole.onnx"
    onnx.save(model, file)
    ids = np.arange(5)[None, :]
    empty = {
        f"past_key_values.0.{part}": np.zeros((1, 2, 0, shape.head), dtype=np.float32) for part in ("key", "value")
    }
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)} | empty
    (whole,) = onnxruntime.InferenceSession(str(file)).run(["logits"], feeds)

    graph = load(tmp_path, model)
    (last,) = graph.runner.run(0, ids, np.zeros(1, dtype=np.int64))

    assert (whole.shape, graph.layout.last_only) == ((1, 5, 300), True)
    np.testing.assert_allclose(last, whole[0, -1], atol=1e-5)


def test_load_graph_that_ends_in_something_else_is_left_as_it_is(tmp_path):
    """A head that is no product keeps all positions, and the last one is read."""
    model = build(SHAPE, reference.random_weights(SHAPE))
    model.graph.node[-1].op_type = "Tanh"
    graph = load(tmp_path, model)

    assert not graph.layout.last_only
    assert graph.runner.run(0, np.arange(5)[None, :], np.zeros(1, dtype=np.int64)).shape == (1, 300)


def test_load_graph_finds_weights_in_a_second_file(tmp_path):
    """As exports of more than 2 GiB have them."""
    model = build(SHAPE, reference.random_weights(SHAPE))
    file = tmp_path / "model.onnx"
    onnx.save(model, file, save_as_external_data=True, location="model.onnx.data")

    graph = load_graph(file, LIMITS, model="tiny", threads=1, gpu_index=None)

    assert np.isfinite(graph.runner.run(0, np.arange(5)[None, :], np.zeros(1, dtype=np.int64))).all()
