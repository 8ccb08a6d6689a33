"""The code blocks of README.md and docs/, and what it takes to run them.

A comment in front of a block says how it is tested, if not by running it and expecting success:

    <!-- test: not run, because REASON -->     its commands must parse, and their files exist
    <!-- test: exit status 1 -->               the last command of the block ends with it
    <!-- test: with MNIST -->                  run only where all of MNIST is used
    <!-- test: exit status 1 with MNIST -->    the same, where all of MNIST is used
    <!-- test: output -->                      the block before it prints lines that begin so
    <!-- test: output, numbers vary -->        the same, but for the numbers

A block with a title is a file: it is written before the next block runs.
"""

import contextlib
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from smidgen.cli import build_parser, main
from smidgen.cli.flags import normalized
from smidgen.config import Experiment

ROOT = Path(__file__).parents[1]
LANGUAGES = {"bash", "python", "toml", "yaml", "text", "html", "markdown"}
_DIRECTIVE = re.compile(r"<!-- test: (.*?) -->")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A code block of a page."""

    page: str
    line: int
    language: str
    title: str | None
    directive: str
    """What the comment in front of it says, or nothing."""
    code: str

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}"

    @property
    def is_run(self) -> bool:
        return not self.directive.startswith("not run")


def pages() -> list[str]:
    """All pages that people read, relative to the repository."""
    docs = (ROOT / "docs").rglob("*.md")
    paths = [*ROOT.glob("*.md"), ROOT / "records" / "README.md", *docs]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def blocks_of(page: str) -> list[Block]:
    """The code blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found, directive = [], ""
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            match = _DIRECTIVE.search(token.content)
            directive = match[1] if match else directive
        if token.type in ("fence", "code_block"):
            title = re.search(r'title="([^"]*)"', token.info)
            found.append(
                Block(
                    page=page,
                    line=(token.map or [0])[0] + 1,
                    language=token.info.split(" ")[0],
                    title=title[1] if title else None,
                    directive=directive,
                    code=token.content,
                )
            )
        if token.type not in ("html_block", "list_item_open", "bullet_list_open"):
            directive = ""
    return found


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command of a block, without comments."""
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def check_command(words: list[str]) -> None:
    """Check a command without running it: smidgen's must parse, files and targets must exist."""
    program, *arguments = words
    if program == "smidgen":
        build_parser().parse_args(normalized(arguments))
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), words
    elif program == "python" and arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).is_file(), words
    elif program in ("pip", ".venv/bin/pip"):
        known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        for extra in re.findall(r"\[(\w+)\]", " ".join(arguments)):
            assert extra in known["project"]["optional-dependencies"], words
    else:
        assert program in ("git", "cd", "source", "python", "python3"), words


def check_toml(code: str) -> None:
    """Read a block as an experiment; tables that it leaves out are filled in."""
    tables = tomllib.loads(code)
    rest = {
        "experiment": '[experiment]\nname = "x"\n',
        "model": '[model]\nchain = "8 G"\n',
        "data": '[data]\nname = "mnist"\n',
    }
    missing = [text for table, text in rest.items() if table not in tables]
    Experiment.from_toml("\n".join([*missing, code]))


@dataclass
class PageRunner:
    """Runs the blocks of a page, one after the other, in the current folder."""

    with_mnist: bool
    """Whether the data set mnist is all of MNIST."""
    names: dict[str, Any] = field(default_factory=dict)
    """What the page's Python has defined."""
    printed: str = ""
    """The output of the last block that was run."""

    def run(self, block: Block) -> None:
        """Run or check one block."""
        if block.language == "toml":
            check_toml(block.code)
        if block.title is not None:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.code, encoding="utf-8")
        elif block.language == "bash":
            self._run_commands(block)
        elif block.language == "python" and block.is_run:
            self._run_python(block)
        elif block.directive.startswith("output"):
            self._compare(block)

    def _run_commands(self, block: Block) -> None:
        every = list(commands(block.code))
        self.printed = ""
        for words in every:
            check_command(words)
            if not block.is_run or (block.directive == "with MNIST" and not self.with_mnist):
                continue
            assert words[0] == "smidgen", f"{block}: {words[0]} is not run by the tests"
            expected = self._status(block) if words is every[-1] else 0
            expected = 130 if words[1] == "live" else expected  # it runs until Ctrl-C
            with contextlib.redirect_stdout(io.StringIO()) as out:
                briefly = ["--seconds", "0.01"] if words[1] == "bench" else []
                status = main(expanded(words[1:]) + briefly)
            self.printed += out.getvalue()
            assert status == expected, f"{block}: {shlex.join(words)}: exit status {status}"

    def _status(self, block: Block) -> int:
        match = re.fullmatch(r"exit status (\d+)( with MNIST)?", block.directive)
        return int(match[1]) if match and (self.with_mnist or not match[2]) else 0

    def _run_python(self, block: Block) -> None:
        sys.modules.pop("my_model", None)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block.code, str(block), "exec"), self.names)
            for name, value in list(self.names.items()):
                if name.startswith("test_"):
                    value()
                    del self.names[name]
        self.printed = out.getvalue()

    def _compare(self, block: Block) -> None:
        """Each line of the block begins a line that was printed, in this order."""
        if block.directive.endswith("with MNIST") and not self.with_mnist:
            return
        vary = "numbers vary" in block.directive
        shown, printed = (
            [comparable(line, vary) for line in lines]
            for lines in (block.code.replace("...\n", "").splitlines(), self.printed.splitlines())
        )
        rest = iter(printed)
        for line in shown:
            found = any(other.startswith(line) for other in rest)
            assert found, f"{block}: this is not printed: {line}\n{self.printed}"


def comparable(line: str, numbers_vary: bool) -> str:
    """The line with single spaces, and N for each number if numbers vary."""
    line = " ".join(line.split())
    return re.sub(r"\d[\d,.]*", "N", line) if numbers_vary else line


def expanded(words: list[str]) -> list[str]:
    """The words with each pattern replaced by the paths that match it, as a shell does."""
    found: list[str] = []
    for word in words:
        paths = sorted(Path().glob(word)) if "*" in word and " " not in word else []
        found += [f"{path}/" if word.endswith("/") else str(path) for path in paths] or [word]
    return found
