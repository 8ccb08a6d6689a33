"""The shell steps of the GitHub action, run in a temporary folder."""

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="the action needs bash")

STUB = """#!/bin/sh
echo "$@" >> calls
case "$2" in
  over*) printf 'layers\\n\\nverdict: NOT inside the budget\\n  parameters FAIL\\n'; exit 1 ;;
  broken*) echo "smidgen: broken.toml cannot be read" >&2; exit 2 ;;
  --check) echo "$3: stale"; exit 1 ;;
  *) printf 'layers\\n\\nverdict: inside the budget\\n  parameters pass\\n' ;;
esac
"""


def step(name: str) -> str:
    """The shell of the step `name` in action.yml."""
    text = (ROOT / "action.yml").read_text("utf-8")
    section = text[text.index(f"- name: {name}\n") :]
    found = re.search(r"^( *)run: \|\n((?:\1  .*\n|\n)+)", section, re.MULTILINE)
    assert found is not None
    return textwrap.dedent(found[2])


class Job:
    """The folder of a job, with the files that the step writes."""

    def __init__(self, folder: Path, smidgen: Path) -> None:
        self.folder = folder
        (folder / "smidgen-path").write_text(f"{smidgen}\n", encoding="utf-8")

    def run(self, **inputs: str) -> tuple[int, str, str]:
        """Exit status, output and summary of the step with these inputs."""
        summary = self.folder / "summary.md"
        summary.write_text("", encoding="utf-8")
        names = ("experiment", "run", "readme", "data_dir")
        environment = {name.upper(): inputs.get(name, "") for name in names}
        environment |= {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "RUNNER_TEMP": str(self.folder),
            "GITHUB_STEP_SUMMARY": str(summary),
        }
        assert BASH is not None
        done = subprocess.run(
            [
                BASH,
                "--noprofile",
                "--norc",
                "-eo",
                "pipefail",
                "-c",
                step("Check against the budget"),
            ],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stderr
        return done.returncode, done.stdout, summary.read_text("utf-8")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    stub = tmp_path / "a stub"
    stub.write_text(STUB, encoding="utf-8")
    stub.chmod(0o755)
    return Job(tmp_path, stub)


def test_a_network_inside_its_budget_passes(job: Job) -> None:
    status, output, summary = job.run(experiment="fine.toml")
    assert status == 0
    assert output.startswith("layers\n")
    assert summary == (
        "### fine.toml: inside the budget\n\n````\nverdict: inside the budget\n"
        "  parameters pass\n````\n\n"
    )


def test_a_missed_limit_fails_and_everything_else_is_still_checked(job: Job) -> None:
    status, output, summary = job.run(experiment="over.toml\nfine.toml")
    assert status == 1
    assert "::error title=smidgen::over.toml: NOT inside the budget" in output
    assert "### over.toml: NOT inside the budget" in summary
    assert "### fine.toml: inside the budget" in summary


def test_a_failed_check_shows_its_message(job: Job) -> None:
    status, _, summary = job.run(experiment="broken.toml over.toml")
    assert status == 2
    assert "### broken.toml: could not be checked" in summary
    assert "smidgen: broken.toml cannot be read" in summary


def test_runs_by_pattern_or_by_name(job: Job) -> None:
    for seed in (0, 1):
        (job.folder / "records" / f"seed-{seed}").mkdir(parents=True)
    status, _, _ = job.run(run="records/* named", data_dir="my data")
    assert status == 0
    calls = (job.folder / "calls").read_text("utf-8").splitlines()
    folders = ["records/seed-0", "records/seed-1", "named"]
    assert calls == [f"check {folder} --data-dir my data" for folder in folders]


def test_a_pattern_without_runs_passes(job: Job) -> None:
    status, output, summary = job.run(run="records/*/seed-*")
    assert (status, summary) == (0, "")
    assert "no run matches records/*/seed-* yet" in output


def test_a_stale_page_fails(job: Job) -> None:
    status, _, summary = job.run(readme="README.md")
    assert status == 1
    assert "### README.md: NOT up to date" in summary


def test_an_action_with_nothing_to_check_fails(job: Job) -> None:
    status, output, _ = job.run()
    assert status == 2
    assert "Nothing to check" in output


def test_inputs_are_data_and_not_shell(job: Job) -> None:
    job.run(experiment="$(touch${IFS}broken) `touch\tbroken` ;touch broken")
    assert not (job.folder / "broken").exists()
    text = (ROOT / "action.yml").read_text("utf-8")
    shells = re.findall(r"run: \|\n(?: {8}.*\n|\n)+", text)
    assert len(shells) == 2
    assert not any("${{" in shell for shell in shells)


def test_the_real_smidgen_judges_a_network(tmp_path: Path, tiny_toml: Callable[..., Path]) -> None:
    job = Job(tmp_path, Path(sys.executable).with_name("smidgen"))
    tiny_toml("tiny.toml", 1000)
    tiny_toml("large.toml", 10)
    status, _, summary = job.run(experiment="*.toml")
    assert status == 1
    assert "### tiny.toml: inside the budget" in summary
    assert "### large.toml: NOT inside the budget" in summary
    assert "parameters  at most 10" in summary
    assert "Layer (type)" not in summary


@pytest.fixture
def tiny_toml(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, max_params: int) -> Path:
        path = tmp_path / name
        path.write_text(
            f'[experiment]\nname = "tiny"\n[budget]\nmax_params = {max_params}\n'
            '[model]\nchain = "4 M 4 G"\n[data]\nname = "digits"\n'
            '[train]\nepochs = 1\nbatch_size = 8\noptimizer = { name = "sgd", lr = 0.1 }\n',
            encoding="utf-8",
        )
        return path

    return write


@pytest.mark.parametrize("name", ["action.yml", ".github/workflows/ci.yml"])
def test_plain_values_have_no_colon(name: str) -> None:
    """YAML would read a second colon on a line as another mapping."""
    for line in (ROOT / name).read_text("utf-8").splitlines():
        value = re.match(r"^ *(?:- )?(?:name|description): (?![\"'>|])(.*)", line)
        assert value is None or ": " not in value[1], line


def test_the_action_and_the_workflows_name_the_same_inputs() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    inputs = set(re.findall(r"^  ([a-z-]+):$", text[: text.index("\nruns:")], re.MULTILINE))
    used = set(re.findall(r"inputs\.([a-z-]+)", text))
    documented = set(
        re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/gate.md").read_text(), re.MULTILINE)
    )
    assert inputs == used == documented
    for place in ("src/smidgen/cli/project/templates/smidgen.yml", ".github/workflows/ci.yml"):
        _, use = re.split(r"uses: (?:\./|\$action)\n", (ROOT / place).read_text("utf-8"))
        given = re.findall(r"^          ([a-z-]+):", use, re.MULTILINE)
        assert given
        assert set(given) <= inputs
