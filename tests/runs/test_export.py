"""Exports are compared with the network, recorded, and dropped if they differ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import smidgen
from smidgen._storage.digests import sha256_of_file
from smidgen.cli import main
from smidgen.errors import ConfigError, RecordError
from smidgen.exporters.job import ExportJob
from smidgen.record import Comparison, format_export, read_export
from smidgen.runs.export import EXPORTERS


def write_scores(job: ExportJob, folder: Path, wrong: int = 0) -> Comparison:
    """An exporter whose file has the network's scores, `wrong` images excepted."""
    scores = job.scores.copy()
    scores[:wrong] = np.roll(scores[:wrong], 1, axis=1)
    (folder / "scores").mkdir()
    (folder / "scores" / "scores.bin").write_bytes(scores.tobytes())
    return job.compare(scores, "network", tolerance=0.01)


@pytest.fixture
def exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds `right` and `wrong`, three of whose predictions differ."""
    monkeypatch.setitem(EXPORTERS, "right", write_scores)
    monkeypatch.setitem(EXPORTERS, "wrong", lambda job, folder: write_scores(job, folder, 3))


@pytest.mark.usefixtures("exporters")
def test_the_record_names_each_file_and_how_it_compares(run_copy: Path) -> None:
    result = smidgen.export(run_copy, ["right"])
    found = read_export(run_copy)
    assert found is not None
    assert found.artifacts == result.artifacts
    assert found.weights_sha256 == smidgen.read_record(run_copy).weights_sha256
    (artifact,) = found.artifacts
    (file,) = artifact.files
    assert (file.path, file.num_bytes) == ("scores/scores.bin", 360 * 10 * 4)
    assert file.sha256 == sha256_of_file(run_copy / file.path)
    assert artifact.comparison.num_images == 360
    assert artifact.comparison.differing == ()
    assert artifact.comparison.num_correct == smidgen.read_record(run_copy).test.num_correct


@pytest.mark.usefixtures("exporters")
def test_of_an_export_that_differs_no_file_is_left(run_copy: Path) -> None:
    before = sorted(run_copy.rglob("*"))
    result = smidgen.export(run_copy, ["wrong", "right"])
    assert not result.passed
    (failure,) = result.failures
    assert failure.startswith("wrong: 3 of 360 predictions differ from those of the network (0 ")
    assert "test images 0, 1, 2; the largest difference of a score is" in failure
    new = {path.name for path in run_copy.rglob("*")} - {path.name for path in before}
    assert new == {"export.json", "scores", "scores.bin"}
    found = read_export(run_copy)
    assert found is not None
    assert [artifact.name for artifact in found.artifacts] == ["right"]


@pytest.mark.usefixtures("exporters")
def test_an_export_that_fails_takes_the_earlier_one_with_it(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smidgen.export(run_copy, ["right"])
    monkeypatch.setitem(EXPORTERS, "right", EXPORTERS["wrong"])
    assert not smidgen.export(run_copy, ["right"]).passed
    assert not (run_copy / "scores" / "scores.bin").exists()
    found = read_export(run_copy)
    assert found is not None
    assert found.artifacts == ()


@pytest.mark.usefixtures("exporters")
def test_the_command_says_what_failed_and_ends_with_1(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run_copy), "--to", "right"]) == 0
    assert "0 predictions differ from those of the network" in capsys.readouterr().out
    assert main(["export", str(run_copy), "--to", "right,wrong"]) == 1
    (line,) = [li for li in capsys.readouterr().out.splitlines() if li.startswith("FAILED")]
    assert line.startswith("FAILED wrong: 3 of 360 predictions differ")
    assert main(["export", str(run_copy), "--to", "rihgt"]) == 2
    assert "'rihgt' cannot be exported to" in capsys.readouterr().err


@pytest.mark.usefixtures("exporters")
def test_one_folder_has_the_exports_of_one_run(run_copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    smidgen.export(run_copy, ["right"], out)
    found = read_export(out)
    assert found is not None
    path = out / "export.json"
    path.write_text(path.read_text().replace("right", "wrong"))
    with pytest.raises(RecordError, match="was changed after it was written"):
        smidgen.export(run_copy, ["right"], out)
    path.write_text(format_export(replace(found, weights_sha256="0" * 64)))
    with pytest.raises(ConfigError, match="has exports of another run"):
        smidgen.export(run_copy, ["right"], out)
