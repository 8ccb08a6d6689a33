import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from smidgen.budget import Budget, Verdict
from smidgen.config import Augment, Model
from smidgen.errors import RecordError, SmidgenError
from smidgen.formatting import markdown_table, percent
from smidgen.record import RunRecord, format_record
from smidgen.record.profile import layer_rows, receptive_field_rows, total_rows
from smidgen.report import read_run, write_report
from smidgen.report.observations import observations, result_sentence
from smidgen.report.run_page import sections_of, tiles


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the sections with plots, which take most of the time."""
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])


def tree(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def rewrite(folder: Path, record: RunRecord) -> None:
    (folder / "run.json").write_text(format_record(record))
    (folder / "experiment.toml").write_text(record.experiment.to_toml())


def page(folder: Path, out: Path) -> str:
    out.mkdir(exist_ok=True)
    write_report(read_run(folder), out)
    return (out / "report.md").read_text(encoding="utf-8")


def test_the_page_shows_the_record(finished_folder: Path, record: RunRecord) -> None:
    text = (finished_folder / "report.md").read_text(encoding="utf-8")
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings[:3] == ["Target", "Result", "Analysis"]
    assert "Curves" in headings
    assert record.experiment.target in text
    assert "**Inside the budget.**" in text
    assert result_sentence(record) in text
    for limit in record.verdict.limits:
        assert all(cell in text for cell in limit.cells)
    for sentence in observations(record):
        assert f"- {sentence}\n" in text
    tables = (layer_rows, receptive_field_rows, lambda profile: (("", ""), total_rows(profile)))
    for table in tables:
        assert markdown_table(*table(record.profile)) in text
    assert f"```\n{record.command}\n```" in text
    assert record.weights_sha256 in text
    assert "1,137 images of digits" in text
    assert "300 others" in text


def test_the_images_of_the_page_exist(finished_folder: Path) -> None:
    text = (finished_folder / "report.md").read_text(encoding="utf-8")
    links = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if "](" in line]
    images = [link for link in links if link.endswith(".png")]
    assert len(images) >= 2
    for link in images:
        with Image.open(finished_folder / link) as image:
            image.load()
            assert image.width >= 200


@pytest.mark.usefixtures("no_plots")
def test_the_analysis_is_above_the_observations(
    run_copy: Path, record: RunRecord, tmp_path: Path
) -> None:
    words = "It **learns** quickly | mostly {{ braces }}."
    rewrite(run_copy, replace(record, experiment=replace(record.experiment, analysis=words)))
    text = page(run_copy, tmp_path / "out")
    assert text.index("## Analysis") < text.index(words) < text.index(observations(record)[0])


@pytest.mark.usefixtures("no_plots")
def test_a_missed_budget_and_a_missing_target_are_shown(
    run_copy: Path, record: RunRecord, tmp_path: Path
) -> None:
    limits = tuple(replace(limit, passed=False) for limit in record.verdict.limits)
    verdict = replace(record.verdict, limits=limits)
    experiment = replace(record.experiment, target="")
    rewrite(run_copy, replace(record, verdict=verdict, experiment=experiment))
    text = page(run_copy, tmp_path / "out")
    assert "**NOT inside the budget.**" in text
    assert "The experiment states no target." in text
    assert text.count("FAIL") == len(limits) == str(verdict).count("FAIL")


def test_the_same_record_gives_the_same_bytes(finished_folder: Path, tmp_path: Path) -> None:
    page(finished_folder, tmp_path / "again")
    again = tree(tmp_path / "again")
    assert {"report.md", "report.html"} <= again.keys()
    for name, content in again.items():
        assert (finished_folder / name).read_bytes() == content, name


@pytest.mark.usefixtures("no_plots")
def test_a_report_is_written_from_the_name_of_a_folder(run_copy: Path) -> None:
    (run_copy / "report.html").unlink()
    assert write_report(str(run_copy)) == run_copy / "report.html"
    assert (run_copy / "report.html").is_file()


@pytest.mark.usefixtures("no_plots")
def test_an_html_page_escapes_texts_from_the_experiment(
    run_copy: Path, record: RunRecord, tmp_path: Path
) -> None:
    words = "<script>alert(1)</script>"
    experiment = replace(record.experiment, target=words, analysis=words)
    rewrite(run_copy, replace(record, experiment=experiment))
    page(run_copy, tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert words not in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_page_says_what_the_folder_lacks(run_copy: Path, tmp_path: Path) -> None:
    for name in ("run.json", "weights.safetensors", "diagnostics.safetensors"):
        (run_copy / name).unlink()
    run = read_run(run_copy)
    assert run.record is None
    assert len(run.epochs) == 2
    text = page(run_copy, tmp_path / "out")
    assert "The run did not finish: it has 2 of 2 epochs" in text
    assert all(sentence in text for sentence in run.missing)
    assert "### Layers" not in text


def test_a_last_line_that_was_cut_off_is_left_out(run_copy: Path) -> None:
    (run_copy / "run.json").unlink()
    lines = (run_copy / "metrics.jsonl").read_text()
    (run_copy / "metrics.jsonl").write_text(lines[:-5])
    assert [epoch.epoch for epoch in read_run(run_copy).epochs] == [1]
    (run_copy / "metrics.jsonl").write_text("{}\n" + lines)
    with pytest.raises(RecordError, match=r"metrics.jsonl is damaged"):
        read_run(run_copy)


def test_a_folder_without_a_run_is_an_error(tmp_path: Path, finished_folder: Path) -> None:
    with pytest.raises(RecordError, match="has no run"):
        read_run(tmp_path)
    shutil.copy(finished_folder / "run.json", tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"garbage")
    with pytest.raises(RecordError, match=r"weights.safetensors is damaged"):
        read_run(tmp_path)


def test_the_filters_are_those_of_the_first_convolution(finished_folder: Path) -> None:
    for _ in range(5):  # the file's reader gives another order each time
        filters = read_run(finished_folder).filters
        assert filters is not None
        assert filters.shape == (6, 1, 3, 3)


@pytest.mark.usefixtures("no_plots")
def test_a_folder_that_cannot_be_written_is_an_error(finished_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").touch()
    with pytest.raises(SmidgenError, match="figures cannot be made: File exists"):
        write_report(read_run(finished_folder), tmp_path)


@pytest.mark.usefixtures("no_plots")
def test_a_budget_without_limits_does_not_pass(
    run_copy: Path, record: RunRecord, tmp_path: Path
) -> None:
    experiment = replace(record.experiment, budget=Budget())
    rewrite(run_copy, replace(record, experiment=experiment, verdict=Verdict(limits=())))
    text = page(run_copy, tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "**No limits to judge.**" in text
    assert "<strong>No limits to judge</strong>" in html
    for shown in (text, html):
        assert "nside the budget" not in shown
    assert 'class="verdict pass"' not in html


def test_the_curves_mention_only_what_the_run_had(finished_folder: Path) -> None:
    run = read_run(finished_folder)
    curves = sections_of(run)[0]
    assert "averages over a few steps: on augmented images except in the last epoch" in curves.text
    assert ", with dropout, while the weights change" in curves.text
    assert curves.plots[0].caption == (
        "Training and validation accuracy by epoch, with the target as a dotted line"
    )
    assert run.record is not None
    layers = [row for row in run.record.profile.layers if "Dropout" not in row.operation]
    plain = replace(
        run,
        experiment=replace(
            run.experiment,
            budget=Budget(),
            data=replace(run.experiment.data, augment=Augment()),
        ),
        epochs=tuple(replace(epoch, validation=None, steps=None) for epoch in run.epochs),
        record=replace(run.record, profile=replace(run.record.profile, layers=tuple(layers))),
    )
    curves, *_, samples = sections_of(plain)
    assert "averages over the epoch: while the weights change." in curves.text
    assert [plot.caption for plot in curves.plots[:2]] == [
        "Training accuracy by epoch",
        "Training loss by epoch",
    ]
    assert "augment" not in samples.text + samples.images[0].caption


def test_the_page_prints_its_epochs_and_has_no_metadata(
    finished_folder: Path, record: RunRecord
) -> None:
    html = (finished_folder / "report.html").read_text(encoding="utf-8")
    assert '<div class="printed">\n<h3>All epochs</h3>' in html
    assert html.count(f"<td>{record.epochs[0].epoch}</td>") >= 2
    assert "<metadata>" not in html
    assert "rdf:" not in html


def test_the_page_begins_with_the_numbers_that_matter(
    finished_folder: Path, record: RunRecord
) -> None:
    shown = {
        name: (value, limit, word) for name, value, limit, word in tiles(read_run(finished_folder))
    }
    assert shown["parameters"] == (f"{record.profile.num_params:,}", "at most 1,000", "pass")
    assert shown["test accuracy"] == (
        percent(record.test.score.accuracy),
        "at least 15.00 %",
        "pass",
    )
    assert shown["seed"] == ("3", "", "")
    assert list(shown) == [
        *("test accuracy", "parameters", "multiply-adds", "epochs", "training", "seed")
    ]


def test_a_network_that_was_trained_elsewhere_has_no_seed(
    finished_folder: Path, record: RunRecord
) -> None:
    elsewhere = replace(record, trained_elsewhere=True, epochs=())
    run = replace(read_run(finished_folder), record=elsewhere, epochs=())
    shown = {name: value for name, value, _, _ in tiles(run)}
    assert shown["epochs"] == "not known"
    assert not {"seed", "training"} & shown.keys()


def test_every_section_is_in_the_contents(finished_folder: Path) -> None:
    html = (finished_folder / "report.html").read_text(encoding="utf-8")
    headings = re.findall(r'<h2 id="([^"]+)">', html)
    assert len(headings) == len(set(headings)) >= 9
    assert re.findall(r'<li><a href="#([^"]+)">', html) == headings


def test_the_page_needs_no_other_file(finished_folder: Path) -> None:
    page = finished_folder / "report.html"
    html = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 1_000_000
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]+"', html)
    assert not re.findall(r"url\((?!#)", html)


def test_dropout_that_drops_nothing_is_not_mentioned(finished_folder: Path) -> None:
    run = read_run(finished_folder)
    model = Model(net="gap-6k", args={"dropout": 0.0})
    none = replace(run, experiment=replace(run.experiment, model=model))
    some = replace(run, experiment=replace(run.experiment, model=replace(model, args={})))
    assert "dropout" not in sections_of(none)[0].text
    assert "with dropout" in sections_of(some)[0].text
