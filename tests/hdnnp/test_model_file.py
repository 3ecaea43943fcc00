import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

from kmde_fw.errors import ModelError
from kmde_fw.hdnnp import from_bytes, load, save, to_bytes


def header(data):
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])["__metadata__"]


def test_round_trip_predicts_the_same_bits(model, structure, tmp_path):
    save(model, tmp_path / "model.safetensors")
    copy = load(tmp_path / "model.safetensors")
    before, after = model.predict(structure), copy.predict(structure)
    assert after.energy == before.energy
    np.testing.assert_array_equal(after.forces, before.forces)
    np.testing.assert_array_equal(after.stress, before.stress)
    assert copy.provenance == model.provenance
    assert to_bytes(copy) == to_bytes(model)


def test_metadata_say_what_a_reader_needs(model):
    (text,) = header(to_bytes(model)).values()
    metadata = json.loads(text)
    assert metadata["elements"] == ["Al", "Fe", "Pt"]
    assert metadata["columns"][0] == "G2 Al eta=0.01 rs=0 rc=4"
    assert metadata["units"] == {"length": "Å", "energy": "eV", "force": "eV/Å", "stress": "eV/Å³"}
    assert metadata["descriptor"]["cutoff"] == 4.0
    assert metadata["hidden"] == [7, 5]
    assert metadata["version"] == 1


def test_an_element_without_training_data_survives(make_model):
    model = make_model()
    model.minimum[2], model.maximum[2] = np.inf, -np.inf
    assert (from_bytes(to_bytes(model)).minimum[2] == np.inf).all()


def test_damaged_and_foreign_files_are_refused(model, tmp_path):
    data = to_bytes(model)
    for broken in (b"", b"\0" * 4, data[:100], data[:-8], b"PK" + data):
        with pytest.raises(ModelError, match="damaged or no safetensors file"):
            from_bytes(broken)
    with pytest.raises(ModelError, match="not a model of kmde_fw"):
        from_bytes(save_tensors({"weights": np.zeros(3)}))
    with pytest.raises(ModelError, match="cannot read the model file"):
        load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "has version 99"),
        ({"columns": ["G2 Al eta=0.02 rs=0 rc=4"]}, "symmetry functions"),
        ({"elements": None}, "lacks a part"),
        ({"hidden": [8, 5]}, "weights has shape"),
        ({"descriptor": {"cutoff": -1}}, "lacks a part"),
    ],
)
def test_altered_metadata_are_refused(model, change, message):
    ((key, text),) = header(to_bytes(model)).items()
    arrays = {name: getattr(model, name) for name in ("weights", "center", "scale", "offsets", "minimum", "maximum")}
    with pytest.raises(ModelError, match=message):
        from_bytes(save_tensors(arrays, {key: json.dumps({**json.loads(text), **change})}))


def test_weights_that_are_not_numbers_are_refused(make_model):
    model = make_model()
    model.weights[3] = np.nan
    with pytest.raises(ModelError, match="not a finite number"):
        from_bytes(to_bytes(model))
