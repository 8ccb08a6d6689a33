"""The interface that users rely on: commands, flags, exit status, start-up time."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smidgen import __version__
from smidgen.cli import main
from smidgen.cli.flags import SHORT_FLAGS

COMMANDS = [
    *("quickstart", "summary", "train", "check", "report", "predict"),
    *("bench", "readme", "audit", "init", "data", "list", "evaluate", "export", "demo", "live"),
]

TRAIN_FLAGS = """
--analysis.text --backend --batch-size --budget.max_activation_bytes --budget.max_flash_bytes
--budget.max_macs --budget.max_ram_bytes --budget.max_weight_bytes --budget.target
--budget.weight_bits --checkpoint-seconds --data --data-dir
--data.augment.no_aug_epochs --data.augment.rotate --data.augment.scale --data.augment.shear
--data.augment.translate --data.grayscale --data.name --data.path --data.size --data.split.seed
--data.split.test --data.transforms --data.validation --device --epochs
--experiment.target --live --lr --max-epochs --max-params --min-accuracy --model.args --model.chain
--model.module --model.net --name --open --out
--quiet --resume --seed --skip-bad --threads --track --train.average.decay --train.average.name
--train.label_smoothing
--train.optimizer.momentum --train.optimizer.name --train.optimizer.nesterov
--train.optimizer.other_lr --train.optimizer.weight_decay --train.precision
--train.schedule.gamma --train.schedule.name --train.schedule.step_size
--train.schedule.warmup
--train.test_each_epoch
"""


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    return out


def test_the_commands_are_these_and_each_is_tested(capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.search(r"commands:\n(.*?)\n\n", help_of(capsys), re.DOTALL)
    assert listed is not None
    assert sorted(re.findall(r"^    (\w+)", listed[1], re.MULTILINE)) == sorted(COMMANDS)
    tested = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    for command in COMMANDS:
        assert re.search(rf'(main|run)\(\[?"{command}"', tested)
        assert help_of(capsys, command).startswith(f"usage: smidgen {command} ")


def test_the_flags_of_train_are_these(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.findall(r"^  (--[\w.-]+)", text := help_of(capsys, "train"), re.MULTILINE)
    assert sorted(found) == sorted(TRAIN_FLAGS.split())
    for key, short in SHORT_FLAGS.items():
        assert re.search(rf"^  {short}( \w+)?, --{key} ", text, re.MULTILINE)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"smidgen {__version__}\n"


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    program = f"""
import sys
from smidgen.cli import main
for words in [[], *([command] for command in {COMMANDS})]:
    try:
        main([*words, "--help"])
    except SystemExit:
        pass
heavy = {{"torch", "matplotlib", "numpy", "sklearn", "PIL", "safetensors", "rich", "jinja2"}}
print("heavy:", sorted(heavy & set(sys.modules)))
"""
    start = time.perf_counter()
    out = python(program)
    assert out.endswith("heavy: []\n")
    assert time.perf_counter() - start < 5  # 0.1 on an idle machine


def test_training_does_not_load_torchs_compiler(tmp_path: Path) -> None:
    program = f"""
import sys
from smidgen.cli import main
words = ["train", "4 M 4 M 4 G", "--data", "digits", "--epochs", "1", "--quiet"]
assert main([*words, "--out", {str(tmp_path)!r}]) == 0
print(sorted({{"torch._dynamo", "torch._inductor", "sympy", "torchvision"}} & set(sys.modules)))
"""
    assert python(program).endswith("\n[]\n")  # loading it takes a second


def test_reading_records_imports_neither_torch_nor_matplotlib() -> None:
    program = """
import sys
import smidgen._storage.serialization, smidgen._storage.files, smidgen.config, smidgen.record
import smidgen.budget, smidgen.stats, smidgen.report
print(sorted({"torch", "matplotlib", "sklearn"} & set(sys.modules)))
"""
    assert python(program) == "[]\n"


def test_the_installed_program_prints_an_error_in_one_line() -> None:
    program = Path(sys.executable).parent / "smidgen"
    if not program.exists():
        pytest.skip("smidgen is not installed next to this Python")
    done = subprocess.run([program, "train", "gap-7k"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "smidgen: 'gap-7k' is neither a TOML file nor a built-in experiment"
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_pipe_is_not_an_error() -> None:
    program = "import sys; from smidgen.cli import main; sys.exit(main(['summary', 'gap-6k']))"
    command = f'{sys.executable} -c "{program}" | true; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["data", "list"], ["summary", "gap-6k"]])
def test_a_full_output_is_one_line(words: list[str]) -> None:
    program = f"import sys; from smidgen.cli import main; sys.exit(main({words}))"
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    message = "smidgen: the output cannot be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (2, message)
