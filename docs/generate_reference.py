"""The pages of the site that are generated from the code: commands and the experiment file.

A hook of MkDocs (mkdocs.yml) makes them from the argument parser and from the fields of smidgen's
dataclasses, so that no flag and no default is written by hand. It also lists the decisions. As an
extension of griffe it completes the docstrings of those dataclasses in the Python reference.
"""

import argparse
import dataclasses
import importlib
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from smidgen._storage.schema import Field, own_fields
from smidgen.cli import build_parser
from smidgen.cli.flags import SHORT_FLAGS
from smidgen.config import Experiment

DECISIONS = Path(__file__).parent / "decisions"

# ------------------------------------------------------------------------------------------ hooks


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"commands": commands_page, "experiment": experiment_page}
    for name, page in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    files.append(File.generated(config, "decisions/index.md", content=decisions_page()))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the decisions, newest first, into the navigation."""
    paths = ["decisions/index.md", *(f"decisions/{path.name}" for path in decisions())]
    assert config.nav is not None
    config.nav[-1]["Development"].append({"Decisions": paths})
    return config


class FieldDocstrings(griffe.Extension):
    """Gives dataclasses that describe their fields the docstring that they have at run time."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Replace the docstring in the source by that of the class."""
        if any("described(" in str(decorator.value) for decorator in cls.decorators):
            made = getattr(importlib.import_module(cls.module.path), cls.name)
            cls.docstring = griffe.Docstring(made.__doc__, parent=cls)


# ---------------------------------------------------------------------------------------- commands


def commands_page() -> str:
    """The page about the commands, in Markdown."""
    parser = build_parser()
    blocks = [
        "# Commands",
        "`smidgen COMMAND --help` says the same: this page is made from the parser.",
        f"{parser.epilog}",
    ]
    for name, command, summary in commands_of(parser):
        usage = command.format_usage().removeprefix("usage: ").strip()
        about = command.description or f"{summary[:1].upper()}{summary[1:]}."
        blocks += [f"## {name}", escaped(about), f"```text\n{usage}\n```"]
        blocks += argument_table(command)
    return "\n\n".join(blocks) + "\n"


def commands_of(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Each command: full name, parser and line of help; those of `data` follow it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield command.prog, command, summaries[name]
                yield from commands_of(command)


def argument_table(command: argparse.ArgumentParser) -> list[str]:
    """The arguments in a table; flags for fields of an experiment are named in a sentence."""
    rows, further = [], []
    for group in command._action_groups:
        if "experiment fields" in (group.title or ""):
            further = [
                "It also has a flag for every field of an [experiment](experiment.md), such as "
                "`--train.average.decay 0.99`; for common ones there are "
                f"{', '.join(f'`{flag}`' for flag in SHORT_FLAGS.values())} and `--data NAME|PATH`."
            ]
            continue
        for action in group._group_actions:
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
                rows.append(argument_row(action))
    return [*([table("argument", "meaning", "default", rows)] if rows else []), *further]


def argument_row(action: argparse.Action) -> tuple[str, str, str]:
    """An argument as it is written, what it means, and its default."""
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(action.choices or ()))
    if action.nargs == "+":
        value += "..."
    names = [f"`{name} {value}`".replace(" `", "`") for name in action.option_strings or ("",)]
    text = (action.help or "") % {"default": action.default, "prog": ""}
    text, _, said = text.partition(" Default: ")  # from a field of RunOptions
    if not said:
        text, _, said = text.rstrip(")").partition(" (default: ")
    if not said and action.option_strings and action.nargs != 0 and action.default:
        said = f"{action.default}"
    return ("<br>".join(names).replace("` ", "`"), sentence(text), escaped(said.strip(".'")))


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return escaped(f"{text[:1].upper()}{text[1:].rstrip('.')}.")


# --------------------------------------------------------------------------------- experiment file

SMALLEST = """\
[experiment]
name = "tiny"

[model]
chain = "8 8 M 12 12 G"

[data]
name = "mnist"
"""


def experiment_page() -> str:
    """The page about an experiment's file, in Markdown."""
    blocks = [
        "# Experiment file",
        "An experiment is one TOML file. Three keys are enough; all others have defaults:",
        f"```toml\n{SMALLEST}```",
        "Every field is also a flag with the name of the key, as in `--train.optimizer.lr 0.05`. "
        "An unknown key, a wrong type or a value out of range is an error that names the key. In "
        "Python the tables are [classes](python.md#experiments) with the same fields.",
    ]
    for name, about, fields in tables_of(Experiment):
        rows = [
            (f"`{field.key.rpartition('.')[2]}`", kind(field), shown(field), escaped(field.summary))
            for field in fields
        ]
        blocks += [f"## `[{name}]` {{ #{name.replace('.', '-')} }}", escaped(about)]
        blocks.append(table("key", "type", "default", "meaning", rows))
    complete = Experiment.from_toml(SMALLEST).to_toml()
    blocks += ["## All defaults", "The file above, complete:", f"```toml\n{complete}```"]
    return "\n\n".join(blocks) + "\n"


def tables_of(cls: type) -> list[tuple[str, str, list[Field]]]:
    """The tables of an experiment's file: name, what it is for, fields."""
    found: dict[str, tuple[str, list[Field]]] = {}

    def visit(cls: type) -> None:
        about = (cls.__doc__ or "").partition("\n\nAttributes:")[0] if cls is not Experiment else ""
        for field in own_fields(cls):
            name = field.key.rpartition(".")[0]
            if dataclasses.is_dataclass(field.kind):
                visit(typing.cast(type, field.kind))
            elif field.flag:
                found.setdefault(name, (about, []))[1].append(field)

    visit(cls)
    return [(name, about, fields) for name, (about, fields) in found.items()]


def kind(field: Field) -> str:
    """The type of a field in the words of TOML."""
    kinds = typing.get_args(field.kind) if is_union(field.kind) else (field.kind,)
    first = next(one for one in kinds if one is not types.NoneType)
    if typing.get_origin(first) is Literal:
        return " or ".join(f'`"{name}"`' for name in typing.get_args(first))
    if typing.get_origin(first) is dict:
        return "table"
    return {int: "integer", float: "number", bool: "true or false", str: "string"}[first]


def is_union(kind: Any) -> bool:
    """Whether the type is a union."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def shown(field: Field) -> str:
    """The default of a field, as TOML."""
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, str):
        return f'`"{field.default}"`'
    return f"`{field.default:,}`".replace(",", "_") if field.default else f"`{field.default}`"


# --------------------------------------------------------------------------------------- decisions


def decisions() -> list[Path]:
    """The decisions' pages, the newest first."""
    return sorted((path for path in DECISIONS.glob("2*.md")), reverse=True)


def decisions_page() -> str:
    """The list of all decisions, in Markdown."""
    rows = []
    for path in decisions():
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        rows.append((path.name[:10], f"[{title}]({path.name})"))
    about = "Why things are as they are, with measurements, and what was tried and did not help."
    return "\n\n".join(["# Decisions", about, table("date", "decision", rows)]) + "\n"


# -------------------------------------------------------------------------------------- Markdown


def table(*heading_and_rows: Any) -> str:
    """A table: the headings, then the rows."""
    *heading, rows = heading_and_rows
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Text without Markdown or HTML in it, but with a link for a page of the docs that it names."""
    text = re.sub(r"([<>&*_\[\]`|])", lambda found: f"&#{ord(found[0])};", text)
    return re.sub(r"\(docs/(\w+)\.md\)", r"([\1](../\1.md))", text)
