"""`tei.v1` has the numbers and types that its existing clients write."""

import pytest
from contract.source_tree import STUBS
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

# "name number type", "?" for presence, "*" for repeated.
MESSAGES = {
    "InfoResponse": "version 1 string, sha 2 string?, docker_label 3 string?, model_id 4 string, model_sha 5 string?, "
    "model_dtype 6 string, model_type 7 enum, max_concurrent_requests 8 uint32, max_input_length 9 uint32, "
    "max_batch_tokens 10 uint32, max_batch_requests 11 uint32?, max_client_batch_size 12 uint32, "
    "tokenization_workers 13 uint32",
    "Metadata": "compute_chars 1 uint32, compute_tokens 2 uint32, total_time_ns 3 uint64, tokenization_time_ns 4 uint64, "
    "queue_time_ns 5 uint64, inference_time_ns 6 uint64",
    "EmbedRequest": "inputs 1 string, truncate 2 bool, normalize 3 bool?, truncation_direction 4 enum, "
    "prompt_name 5 string?, dimensions 6 uint32?",
    "EmbedResponse": "embeddings 1 float*, metadata 2 message",
    "EmbedSparseRequest": "inputs 1 string, truncate 2 bool, truncation_direction 3 enum, prompt_name 4 string?",
    "SparseValue": "index 1 uint32, value 2 float",
    "EmbedSparseResponse": "sparse_embeddings 1 message*, metadata 2 message",
    "EmbedAllRequest": "inputs 1 string, truncate 2 bool, truncation_direction 3 enum, prompt_name 4 string?",
    "TokenEmbedding": "embeddings 1 float*",
    "EmbedAllResponse": "token_embeddings 1 message*, metadata 2 message",
    "PredictRequest": "inputs 1 string, truncate 2 bool, raw_scores 3 bool, truncation_direction 4 enum",
    "PredictPairRequest": "inputs 1 string*, truncate 2 bool, raw_scores 3 bool, truncation_direction 4 enum",
    "Prediction": "score 1 float, label 2 string",
    "PredictResponse": "predictions 1 message*, metadata 2 message",
    "RerankRequest": "query 1 string, texts 2 string*, truncate 3 bool, raw_scores 4 bool, return_text 5 bool, "
    "truncation_direction 6 enum",
    "RerankStreamRequest": "query 1 string, text 2 string, truncate 3 bool, raw_scores 4 bool, return_text 5 bool, "
    "truncation_direction 6 enum",
    "Rank": "index 1 uint32, text 2 string?, score 3 float",
    "RerankResponse": "ranks 1 message*, metadata 2 message",
    "EncodeRequest": "inputs 1 string, add_special_tokens 2 bool, prompt_name 3 string?",
    "SimpleToken": "id 1 uint32, text 2 string, special 3 bool, start 4 uint32?, stop 5 uint32?",
    "EncodeResponse": "tokens 1 message*",
    "DecodeRequest": "ids 1 uint32*, skip_special_tokens 2 bool",
    "DecodeResponse": "text 1 string",
}
STREAMED = {
    "Embed": ("Embed", "EmbedSparse", "EmbedAll"),
    "Predict": ("Predict", "PredictPair"),
    "Tokenize": ("Tokenize", "Decode"),
}


@pytest.fixture(scope="module")
def tei():
    """The committed descriptor of the contract."""
    files = FileDescriptorSet.FromString((STUBS / "gannet/descriptors.binpb").read_bytes()).file
    (file,) = (file for file in files if file.package == "tei.v1")
    return file


def test_tei_messages_have_the_numbers_and_types_of_the_contract(tei):
    """Every field, by number, type and presence."""
    assert {message.name: _fields(message) for message in tei.message_type if message.field} == MESSAGES


def test_tei_services_have_the_methods_of_the_contract(tei):
    """Each method streams as its name says; RerankStream alone answers once."""
    methods = {
        f"{service.name}/{method.name}": (method.client_streaming, method.server_streaming)
        for service in tei.service
        for method in service.method
    }
    expected = {"Info/Info": (False, False), "Rerank/Rerank": (False, False), "Rerank/RerankStream": (True, False)}
    for service, names in STREAMED.items():
        expected |= {f"{service}/{name}": (False, False) for name in names}
        expected |= {f"{service}/{name}Stream": (True, True) for name in names}
    assert methods == expected


def test_tei_enums_have_the_numbers_of_the_contract(tei):
    """Both begin with what a client that says nothing means."""
    enums = {enum.name: {value.name: value.number for value in enum.value} for enum in tei.enum_type}
    assert enums == {
        "ModelType": {"MODEL_TYPE_EMBEDDING": 0, "MODEL_TYPE_CLASSIFIER": 1, "MODEL_TYPE_RERANKER": 2},
        "TruncationDirection": {"TRUNCATION_DIRECTION_RIGHT": 0, "TRUNCATION_DIRECTION_LEFT": 1},
    }


def _fields(message: DescriptorProto) -> str:
    return ", ".join(f"{field.name} {field.number} {_type(field)}" for field in message.field)


def _type(field: FieldDescriptorProto) -> str:
    name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return name + ("*" if repeated else "?" if field.proto3_optional else "")
