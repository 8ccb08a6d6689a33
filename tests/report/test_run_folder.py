import hashlib
import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from forging import forge

from smidgen.errors import RecordError
from smidgen.record import RunRecord
from smidgen.report import read_run, write_report


def test_a_finished_run_has_everything(finished_folder: Path, record: RunRecord) -> None:
    run = read_run(finished_folder)
    assert (run.record, run.experiment, run.epochs) == (record, record.experiment, record.epochs)
    assert run.missing == ()
    assert run.filters is not None
    assert run.filters.shape == (6, 1, 3, 3)
    assert run.title == "tiny, seed-3"


def test_an_unfinished_run_has_its_epochs(run_copy: Path, record: RunRecord) -> None:
    for name in ("run.json", "weights.safetensors", "diagnostics.safetensors"):
        (run_copy / name).unlink()
    lines = (run_copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run_copy / "metrics.jsonl").write_text(lines[0] + lines[1][:20])  # cut off while written
    run = read_run(run_copy)
    assert run.record is None
    assert run.epochs == record.epochs[:1]
    assert len(run.missing) == 3
    assert "it has 1 of 2 epochs" in run.missing[0]


def test_the_report_of_an_unfinished_run_says_what_is_missing(run_copy: Path) -> None:
    (run_copy / "run.json").unlink()
    run = read_run(run_copy)
    page = write_report(run, run_copy).read_text()
    markdown = (run_copy / "report.md").read_text()
    for text in (page, markdown):
        assert "The run did not finish: it has 2 of 2 epochs" in text
        assert "Curves" in text
        assert "Confusion" not in text


def test_the_report_of_a_run_without_diagnostics_says_so(run_copy: Path) -> None:
    (run_copy / "diagnostics.safetensors").unlink()
    page = write_report(read_run(run_copy), run_copy).read_text()
    assert "The folder has no sample images, worst predictions or feature maps." in page
    assert "Confusion matrix" in page
    assert "Samples" not in page


@pytest.mark.parametrize("name", ["metrics.jsonl", "experiment.toml"])
def test_a_damaged_file_is_named(run_copy: Path, name: str) -> None:
    (run_copy / "run.json").unlink()
    (run_copy / name).write_text("{nothing}\n")
    with pytest.raises(RecordError, match=name):
        read_run(run_copy)


def test_damaged_arrays_are_named(run_copy: Path) -> None:
    (run_copy / "diagnostics.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(RecordError, match=r"diagnostics.safetensors is damaged"):
        read_run(run_copy)


@pytest.mark.parametrize("name", ["weights", "diagnostics"])
def test_arrays_of_another_run_are_named(run_copy: Path, name: str) -> None:
    path = run_copy / f"{name}.safetensors"
    arrays = safetensors.numpy.load(path.read_bytes())
    path.write_bytes(safetensors.numpy.save(arrays | {"more": np.zeros(1)}))
    with pytest.raises(RecordError, match=rf"{name}.safetensors is damaged, or of another run"):
        read_run(run_copy)


@pytest.mark.parametrize("name", ["run.json", "times.json"])
def test_an_edited_record_is_refused(run_copy: Path, name: str) -> None:
    path = run_copy / name
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(RecordError, match=rf"{name} was changed after it was written"):
        read_run(run_copy)


def test_target_and_analysis_are_those_of_the_current_file(
    run_copy: Path, record: RunRecord
) -> None:
    words = replace(record.experiment, target="Another one.", analysis="An afterthought.")
    later = replace(words, train=replace(words.train, batch_size=7))
    (run_copy / "experiment.toml").write_text(later.to_toml())
    run = read_run(run_copy)
    assert run.experiment == words
    assert run.record == record
    (run_copy / "experiment.toml").write_text("nonsense")
    assert read_run(run_copy).experiment == record.experiment


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"has no run: .*experiment.toml cannot be read"):
        read_run(tmp_path)


def test_an_older_record_without_calibration_is_read(run_copy: Path) -> None:
    forge(run_copy, lambda plain: plain["test"].pop("calibration"))
    run = read_run(run_copy)
    assert run.record is not None
    (said,) = run.missing
    page = write_report(run, run_copy).read_text()
    assert said in html.unescape(page)
    assert "<h2>Calibration" not in page
    assert "Confusion matrix" in page


def test_a_record_of_another_schema_is_refused(run_copy: Path) -> None:
    forge(run_copy, lambda plain: plain.update(schema=1))
    with pytest.raises(RecordError, match="has schema 1"):
        read_run(run_copy)


def test_a_network_without_convolutions_says_so(run_copy: Path) -> None:
    for name, left_out in (("weights", 4), ("diagnostics", 3)):
        path = run_copy / f"{name}.safetensors"
        arrays = safetensors.numpy.load(path.read_bytes())
        content = safetensors.numpy.save({k: a for k, a in arrays.items() if a.ndim != left_out})
        path.write_bytes(content)
        digest = {f"{name}_sha256": hashlib.sha256(content).hexdigest()}
        forge(run_copy, lambda plain, digest=digest: plain.update(digest))  # type: ignore[misc]
    run = read_run(run_copy)
    assert run.filters is None
    assert any("no convolution" in said for said in run.missing)
