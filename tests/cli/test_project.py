"""A new project: complete, inside its own budget, and never written over existing files."""

from pathlib import Path

import pytest

from smidgen.cli import main
from smidgen.cli.project.template import write_project
from smidgen.config import read_experiment
from smidgen.data import open_dataset
from smidgen.errors import ConfigError, SmidgenError
from smidgen.report.audit import audit
from smidgen.report.readme import is_stale
from smidgen.runs.network import prepare_network


def test_it_has_an_experiment_a_readme_and_a_workflow(tmp_path: Path) -> None:
    paths = write_project(tmp_path / "new" / "net", "my net", action="someone/smidgen@v9")
    names = {path.relative_to(tmp_path / "new" / "net").as_posix() for path in paths}
    assert names == {
        *("experiment.toml", "model.py", "README.md", ".gitignore"),
        ".github/workflows/smidgen.yml",
    }
    workflow = (tmp_path / "new/net/.github/workflows/smidgen.yml").read_text("utf-8")
    assert "- uses: someone/smidgen@v9\n" in workflow
    assert not any("$" in path.read_text("utf-8") for path in paths)


def test_it_passes_its_own_gate_before_any_run(tmp_path: Path) -> None:
    write_project(tmp_path, "tiny")
    experiment = read_experiment(tmp_path / "experiment.toml")
    assert experiment.name == "tiny"
    _, found = prepare_network(experiment, open_dataset(experiment.data).info)
    assert experiment.budget.check(found, epochs=experiment.train.epochs).passed
    assert not is_stale(tmp_path / "README.md")
    assert audit((tmp_path / "README.md").read_text("utf-8")).findings == ()


def test_a_run_of_it_passes_the_gate_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, "tiny")
    monkeypatch.chdir(tmp_path)
    digits = ["--data.name", "digits", "--model.chain", "4 M 4 G", "--train.epochs", "1"]
    digits += ["--train.batch_size", "16", "--budget.min_accuracy", "0.12"]
    where = ["--out", "records", "--threads", "1", "--quiet"]
    assert main(["train", "experiment.toml", *digits, *where]) == 0
    assert main(["check", "records/tiny/seed-0"]) == 0
    assert main(["readme", "--check", "README.md"]) == 1
    assert main(["readme", "--update", "README.md"]) == 0
    assert main(["readme", "--check", "README.md"]) == 0
    assert "| [tiny](records/tiny/seed-0/report.md) |" in (tmp_path / "README.md").read_text(
        "utf-8"
    )
    assert "out of date" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["README.md", ".github/workflows/smidgen.yml"])
def test_existing_files_are_not_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{name} exists and is not overwritten"):
        write_project(tmp_path, "tiny")
    assert path.read_text("utf-8") == "mine"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


@pytest.mark.parametrize("name", ["", "a/b", 'a"b', "a\nb", ".hidden", "a\\b"])
def test_an_invalid_name_writes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name an experiment"):
        write_project(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SmidgenError, match="cannot be made"):
        write_project(tmp_path / "file", "tiny")
