"""ONNX files hold one network and say how to use it."""

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import smidgen
from smidgen.runs.load import load_network


@pytest.fixture(scope="module")
def exported(finished_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with everything that is exported to ONNX from the finished run."""
    out = tmp_path_factory.mktemp("exported")
    assert smidgen.export(finished_folder, ["onnx"], out, license="CC0-1.0").passed
    return out


def test_a_file_takes_any_number_of_raw_images(exported: Path, finished_folder: Path) -> None:
    session = onnxruntime.InferenceSession(exported / "network.onnx")
    network = load_network(finished_folder)
    for count in (1, 7):
        images = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8)
        (scores,) = session.run(["scores"], {"pixels": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(scores), network(images), rtol=0, atol=1e-4)


def test_the_metadata_say_what_the_file_is(exported: Path, record: smidgen.RunRecord) -> None:
    model = onnx.load(exported / "network.onnx", load_external_data=False)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == list(record.data.classes)
    assert "raw pixels, uint8" in metadata["preprocessing"]
    assert metadata["run"] == f"tiny, seed 3, weights {record.weights_sha256[:12]}"
    assert metadata["license"] == "CC0-1.0"


def test_a_file_does_not_tell_about_the_machine(exported: Path) -> None:
    content = (exported / "network.onnx").read_bytes()
    assert str(Path(smidgen.__file__).parent).encode() not in content
    assert b".py" not in content
    assert [path.name for path in sorted(exported.iterdir())] == ["export.json", "network.onnx"]
