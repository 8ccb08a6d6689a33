"""Exports are compared with the network, recorded, and dropped if they differ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import smidgen
from smidgen._storage.digests import sha256_of_file
from smidgen.cli import main
from smidgen.config import Budget
from smidgen.errors import ConfigError, RecordError
from smidgen.exporters.job import ExportJob
from smidgen.record import Comparison, ExportedFile, Measurement, format_export, read_export
from smidgen.runs.export import EXPORTERS, _over_budget

ANY_LOSS = ["--max-accuracy-loss", "1"]


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
def test_a_mistake_costs_nothing_that_was_exported(run_copy: Path) -> None:
    assert smidgen.export(run_copy, ["int8"], max_accuracy_loss=1).failures == ()
    before = read_export(run_copy)
    with pytest.raises(ConfigError, match="bits are 8, 8; they must be"):
        smidgen.export(run_copy, ["right", "int8"], bits=(8, 8))
    after = read_export(run_copy)
    assert before is not None
    assert after is not None
    assert after.artifacts[0] == before.artifacts[0]
    assert [artifact.name for artifact in after.artifacts] == ["int8", "right"]
    assert smidgen.check(run_copy).passed
    assert (run_copy / "network-int8.onnx").exists()


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


def write_page(job: ExportJob, folder: Path) -> Comparison:
    """An exporter of a page that has nothing on it."""
    (folder / "network.html").write_text("<p>")
    return job.compare(job.scores, "network", tolerance=0)


def test_the_demo_opens_the_page_and_writes_it_once(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Path] = []
    opened: list[str] = []

    def exporter(job: ExportJob, folder: Path) -> Comparison:
        written.append(folder)
        return write_page(job, folder)

    monkeypatch.setitem(EXPORTERS, "html", exporter)
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address))  # type: ignore[func-returns-value]
    page = run_copy / "network.html"
    for times in (1, 1):
        assert main(["demo", str(run_copy)]) == 0
        assert len(written) == times
    assert capsys.readouterr().out == 2 * f"demo: {page}\n"
    assert opened == 2 * [page.as_uri()]
    page.write_text("<p>edited")
    assert main(["demo", str(run_copy)]) == 0
    assert (len(written), page.read_text()) == (2, "<p>")


def test_a_demo_that_differs_from_the_network_is_an_error(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(EXPORTERS, "html", lambda job, folder: write_scores(job, folder, 3))
    assert main(["demo", str(run_copy)]) == 1
    assert capsys.readouterr().out.startswith("FAILED html: 3 of 360 predictions differ")


@pytest.mark.usefixtures("exporters")
def test_check_finds_exported_files_that_were_changed(run_copy: Path) -> None:
    smidgen.export(run_copy, ["right"])
    assert smidgen.check(run_copy).passed
    path = run_copy / "scores" / "scores.bin"
    path.write_bytes(b"other scores")
    assert smidgen.check(run_copy).differences == ("scores/scores.bin's SHA-256",)
    path.unlink()
    assert smidgen.check(run_copy).passed
    found = read_export(run_copy)
    assert found is not None
    text = format_export(replace(found, weights_sha256="0" * 64))
    (run_copy / "export.json").write_text(text)
    assert smidgen.check(run_copy).differences == ("export.json is about other weights",)


@pytest.mark.parametrize("path", ["../run.json", "/etc/passwd", "a//b", "c:x", "a\\b", ""])
def test_a_record_cannot_name_files_outside_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match="which may be outside its folder"):
        ExportedFile(path=path, sha256="", num_bytes=0)


def test_the_c_code_gives_the_integer_networks_scores(run_copy: Path, tmp_path: Path) -> None:
    result = smidgen.export(run_copy, to=["c"], out=tmp_path, max_accuracy_loss=1)
    (artifact,) = result.artifacts
    paths = {file.path for file in artifact.files}
    assert paths >= {"c/smidgen_model.c", "c/smidgen_model.h", "c/main.c", "c/CMakeLists.txt"}
    assert artifact.comparison.largest_difference == 0
    assert artifact.comparison.differing == ()
    assert "1,000 images of noise" in artifact.comparison.notes[0]


def test_the_c_code_is_measured_on_targets(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Measurement(
        target="rv32i", unit="instructions", flash_bytes=4321, static_bytes=500, stack_bytes=120
    )
    monkeypatch.setattr("smidgen.runs.export.measure", lambda *_: found)
    assert main(["export", str(run_copy), "--to", "c", "--target", "rv32i", *ANY_LOSS]) == 0
    said = capsys.readouterr().out
    assert "rv32i: 4,321 bytes of flash, 620 bytes of RAM without the image (120 are stack)" in said
    record = read_export(run_copy)
    assert record is not None
    assert record.artifacts[0].measurements == (found,)


def test_what_was_not_measured_is_said(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Measurement(target="rv32i", unit="instructions", note="tool is not installed")
    monkeypatch.setattr("smidgen.runs.export.measure", lambda *_: found)
    main(["export", str(run_copy), "--to", "c", "--target", "rv32i", *ANY_LOSS])
    assert "  rv32i: not measured: tool is not installed\n" in capsys.readouterr().out


def test_code_over_the_budget_is_a_failure() -> None:
    found = Measurement(
        target="rv32i", unit="instructions", flash_bytes=4321, static_bytes=500, stack_bytes=120
    )
    lines = list(
        _over_budget([found], Budget(target="rv32i", max_flash_bytes=4321, max_ram_bytes=619))
    )
    assert lines == ["budget: 620 bytes of RAM on rv32i; at most 619 are allowed"]
    assert not list(_over_budget([found], Budget(target="cortex-m0", max_flash_bytes=1)))


@pytest.mark.parametrize(
    ("to", "target", "message"),
    [
        ("c", "arduino", "'arduino' is not a target; there are atmega328p, cortex-m0, rv32i"),
        ("onnx", "rv32i", "targets are for the C code; add c to what is exported"),
    ],
)
def test_targets_that_cannot_be_measured_are_refused(
    to: str, target: str, message: str, run_copy: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        smidgen.export(run_copy, [to], targets=[target])


def test_the_budget_says_how_many_bits_weights_have(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = smidgen.read_record(run_copy)
    budget = replace(record.experiment.budget, weight_bits=4)
    changed = replace(record, experiment=replace(record.experiment, budget=budget))
    monkeypatch.setattr("smidgen.runs.export.read_record", lambda _: changed)
    result = smidgen.export(run_copy, ["c"], max_accuracy_loss=1)
    assert result.quantization is not None
    assert set(result.quantization.bits) == {4}
