"""The commands readme, audit and init: output and exit status."""

import json
import shutil
from pathlib import Path

import pytest

from smidgen.cli import main

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "tests" / "golden" / "pages"
Capture = pytest.CaptureFixture[str]


def test_audit_prints_a_line_for_each_finding(capsys: Capture) -> None:
    page = PAGES / "gap-11k.md"
    assert main(["audit", str(page)]) == 1
    total, field, read = capsys.readouterr().out.splitlines()
    assert total == (
        f"{page}:38: the stated total is 13,808 parameters, but the rows in lines 9 to 36 add up "
        "to 11,312"
    )
    assert field.startswith(f"{page}:55: ")
    assert read == (
        f"{page}: 2 contradictions found in a layer table in lines 9 to 36, a table of kernels and "
        "sizes in lines 48 to 57"
    )


def test_audit_prints_json_for_several_pages(capsys: Capture) -> None:
    pages = [PAGES / "gap-11k.md", PAGES / "gap-6k.md"]
    assert main(["audit", "--json", *map(str, pages)]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first["file"] == str(pages[0])
    assert [finding["line"] for finding in first["findings"]] == [38, 55]
    assert "13,808" in first["findings"][0]["stated"]
    assert (second["findings"], second["not_checked"]) == ([], [])
    assert second["read"] == [{"line": 9, "text": "a layer table in lines 9 to 35"}]


def test_audit_says_what_it_did_not_check(tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Layer 1\n- Kernel: as above\n- Padding: 0\n", encoding="utf-8")
    assert main(["audit", str(page)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{page}:2: not checked: Kernel 'as above' is not a number or size",
        f"{page}: nothing found in a list of layers in lines 1 to 3",
    ]
    page.write_text("A page without layers.", encoding="utf-8")
    assert main(["audit", str(page)]) == 0
    assert "nothing to check" in capsys.readouterr().out


def test_no_page_of_the_repository_has_a_finding(capsys: Capture) -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("records/**/*.md")]
    pages += [*ROOT.glob("records/**/*.html"), *ROOT.glob("src/**/*.md")]
    # the example in the documentation of audit is about contradictions
    assert main(["audit", *(str(page) for page in pages if page.name != "audit.md")]) == 0
    assert "not checked" not in capsys.readouterr().out


def test_audit_of_a_sound_page_ends_with_0(capsys: Capture) -> None:
    assert main(["audit", str(PAGES / "gap-6k.md")]) == 0
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit", "missing.md"], "missing.md cannot be read"),
        (["audit", "binary.md"], "binary.md is not text in UTF-8"),
        (["audit"], "see smidgen audit --help"),
        (["readme", "--check", "missing.md"], "missing.md cannot be read"),
        (["readme", "--update", "marked.md"], "marked.md, line 1: unknown section 'nonsense'"),
        (["readme"], "see smidgen readme --help"),
        (["readme", "--check", "a.md", "--update", "a.md"], "see smidgen readme --help"),
        (["init", "--name", "a/b"], "cannot name an experiment"),
    ],
)
def test_bad_input_ends_with_2_and_a_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary.md").write_bytes(b"\xff")
    marked = "<!-- smidgen nonsense x -->\n<!-- smidgen end -->\n"
    (tmp_path / "marked.md").write_text(marked, encoding="utf-8")
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_readme_is_stale_until_it_is_updated(
    finished_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(finished_folder, tmp_path / "runs" / "tiny")
    page = tmp_path / "README.md"
    page.write_text("<!-- smidgen results runs/* -->\n<!-- smidgen end -->\n", encoding="utf-8")
    statuses = [main(["readme", flag, str(page)]) for flag in ("--check", "--update", "--check")]
    assert statuses == [1, 0, 0]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{page}: out of date; run smidgen readme --update {page}"
    assert said[1:] == [f"{page}: updated", f"{page}: up to date"]
    assert "| [tiny](runs/tiny/report.md) " in page.read_text("utf-8")


def test_init_lists_its_files_and_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "my-net").mkdir()
    monkeypatch.chdir(tmp_path / "my-net")
    assert main(["init"]) == 0
    said = capsys.readouterr().out
    assert "wrote experiment.toml" in said
    assert "OWNER/smidgen" in said
    assert 'name = "my-net"' in Path("experiment.toml").read_text("utf-8")
    assert main(["init"]) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err


def test_init_into_a_folder_with_a_name_and_an_action(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "new"
    assert main(["init", str(folder), "--name", "other", "--action", "someone/smidgen@v1"]) == 0
    assert "OWNER" not in capsys.readouterr().out
    assert 'name = "other"' in (folder / "experiment.toml").read_text("utf-8")
    workflow = (folder / ".github" / "workflows" / "smidgen.yml").read_text("utf-8")
    assert "uses: someone/smidgen@v1" in workflow


def test_report_of_a_folder_that_holds_runs_compares_them_all(
    finished_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    for name in ("seed-0", "seed-1"):
        shutil.copytree(finished_folder, tmp_path / "runs" / "tiny" / name)
    out = tmp_path / "out"
    experiment, run = tmp_path / "runs" / "tiny", tmp_path / "runs" / "tiny" / "seed-1"
    assert main(["report", str(experiment), str(run), "--out", str(out)]) == 0
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out
    assert "2 runs" in (out / "report.md").read_text("utf-8")
    assert main(["report", str(tmp_path / "runs" / "tiny" / "seed-0")]) == 0  # one run is a page
    assert (tmp_path / "runs" / "tiny" / "seed-0" / "report.html").exists()


def test_report_in_markdown_is_small_and_about_one_run(
    finished_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "page"
    run = str(finished_folder)
    assert main(["report", run, "--markdown", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"report: {out / 'report.md'}\n"
    assert sorted(path.name for path in out.iterdir()) == ["figures", "report.md"]
    text = (out / "report.md").read_text(encoding="utf-8")
    assert {"accuracy.png", "network.png"} <= {path.name for path in out.glob("figures/*")}
    assert all(f"](figures/{path.name})" in text for path in out.glob("figures/*"))
    assert text.count("](figures/") == len([*out.glob("figures/*")])
    assert "## Samples" not in text
    shutil.copytree(run, tmp_path / "again")
    assert main(["report", run, str(tmp_path / "again"), "--markdown"]) == 2
    assert "--markdown is for one run; these are 2" in capsys.readouterr().err


def test_report_of_a_folder_without_runs_says_so(tmp_path: Path, capsys: Capture) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert f"{tmp_path} has no run" in capsys.readouterr().err


def test_report_opens_its_page_on_request(
    finished_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address))  # type: ignore[func-returns-value]
    assert main(["report", str(finished_folder), "--out", str(tmp_path), "--open"]) == 0
    assert opened == [(tmp_path / "report.html").as_uri()]


def test_live_serves_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    assert main(["live", str(tmp_path)]) == 130
    assert capsys.readouterr().out.startswith("live: http://127.0.0.1:")
    assert main(["live", str(tmp_path / "none")]) == 2
