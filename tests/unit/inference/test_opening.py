"""Models by name: what is opened, what is shared, and what the start has to say."""

import pytest

from gannet_inference.encoder import BiEncoder
from gannet_inference.errors import ManifestError
from gannet_inference.opening import open_encoders
from gannet_inference.placement import Placement


@pytest.fixture
def opened(tiny_model, tmp_path):
    """Opens models of a manifest with two tiny ones; gives them and the warnings. Closed afterwards."""
    folder = tiny_model().source.folder
    table = f'kind = "bi-encoder"\nsource = {{folder = "{folder}"}}\nlicence = "none"\ntokens_max = 12\n'
    (tmp_path / "models.toml").write_text(f"[models.tiny]\n{table}\n[models.other]\n{table}", encoding="utf-8")
    closing = []

    def opened(names, *, instructions="avx512_vnni", precision=None):
        warnings = []
        encoders = open_encoders(
            BiEncoder,
            names,
            Placement(gpu=None, sessions=1, threads=1, instructions=instructions, runtime="test"),
            manifest=tmp_path / "models.toml",
            models_dir=tmp_path / "models",
            precision=precision,
            queue_max=3,
            warn=warnings.append,
        )
        closing.extend(encoders)
        return encoders, warnings

    yield opened
    for encoder in closing:
        encoder.close()


def test_models_share_one_queue_and_a_name_twice_is_one_model(opened):
    """Several models must not have more threads than there are cores."""
    encoders, warnings = opened(["tiny", "other", "tiny"])

    assert [encoder.built.name for encoder in encoders] == ["tiny", "other"]
    assert encoders[0]._executor is encoders[1]._executor
    assert warnings == []


@pytest.mark.parametrize(
    "instructions,precision,used,warned",
    [
        ("avx512_vnni", None, "int8", []),
        ("avx2", None, "fp32", []),
        ("avx2", "int8", "int8", ["tiny in int8: this CPU has no int8 dot products: int8 may saturate"]),
    ],
)
def test_precision_follows_the_cpu_unless_it_is_configured(opened, instructions, precision, used, warned):
    """The model that is opened is the one in the precision that was chosen; a poor choice is said once."""
    encoders, warnings = opened(["tiny"], instructions=instructions, precision=precision)

    assert encoders[0].built.precision == used
    assert [warning.partition(" and is no faster")[0] for warning in warnings] == warned


def test_unknown_model_is_refused_by_name(opened):
    """The error lists what there is."""
    with pytest.raises(ManifestError, match=r"no such model; there are .*tiny"):
        opened(["tin"])
