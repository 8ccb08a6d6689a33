"""Names, messages, comments, docstrings and docs use the field's words, and one word for each idea.

CHANGELOG.md is left out, since it says what things were called before, and so are records (data)
and the built notebooks, which equal the .py files that are searched here.
"""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "benchmarks", "notebooks", "examples", "experiments", "docs", ".github")
FILES = ("README.md", "CONTRIBUTING.md", "records/README.md", "Makefile", "action.yml")
SUFFIXES = {"", ".py", ".md", ".toml", ".html", ".jinja", ".cpp", ".hpp", ".yml", ".svg"}
FSTRING_MIDDLE = getattr(tokenize, "FSTRING_MIDDLE", None)  # from Python 3.12 on


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Words that have been given up, and what is said instead."""

    instead: str
    names: str = ""
    """A pattern for identifiers, which are taken apart: RunOptions is "Run Options"."""
    prose: str = ""
    """A pattern for text in any case; a space stands for any white space."""
    finds: tuple[str, ...]
    """Text and names that have the words."""
    spares: tuple[str, ...] = ()
    """Text and names that are close, and right."""
    allowed_in: str = "(?!)"
    """A pattern for paths in which the words mean something else."""


GLOSSARY = {
    "lane": Entry(
        instead="kernels, or the backend `native`",
        names=r"(?i)\blanes?\b",
        prose=r"\blanes?\b",
        finds=("lanes_for", "by lanes"),
        spares=("planes",),
        allowed_in=r"csrc/|docs/kernels\.md$",  # the lanes of a vector register
    ),
    "form": Entry(
        instead="backend",
        names=r"(?i)\bforms?\b(?! data)",
        prose=r"--form\b|\b(in (which|what|this|that|each|another|the (fastest|same)) form"
        r"|(eager|native|training|fastest) forms?)\b",
        finds=("take_form", "Form", "in which form", "--form native"),
        spares=("format", "platform", "in the form of a table"),
    ),
    "Where": Entry(
        instead="RunOptions",
        names=r"\bWhere\b",
        finds=("Where",),
        spares=("where", "somewhere"),
    ),
    "listener": Entry(
        instead="callback",
        names=r"(?i)\blisteners?\b",
        prose=r"\blisteners?\b|\btold\b",
        finds=("Listener", "to all listeners", "who is told"),
        spares=("listen", "tells"),
    ),
    "told": Entry(
        instead="on_epoch_end and its like, or completed",
        names=r"(?i)\b(told|past)\b",
        finds=("told", "past"),
        spares=("tell", "paste"),
    ),
    "part of a data set": Entry(
        instead="split",
        names=r"\bDecoded\b|(?i:\b(train|test|validation|which|data) parts?\b|\bset aside\b)",
        prose=r"\b(train|training|test|validation) parts?\b|\bparts? of (a|the|its) data( set)?\b"
        r"|\b(sets?|setting) aside\b|\bput aside\b",
        finds=("Decoded", "test_part", "the test part", "is set aside", "a part of the data set"),
        spares=("parts", "decode", "party", "the parts of a file"),
    ),
    "own data": Entry(
        instead="custom (data), user (module, transforms), your",
        names=r"(?i)\b(ones )?own (data|images?|pictures?|sets?|models?|modules?|networks?)\b"
        r"|\bones own\b",
        prose=r"\bown (data|images?|pictures?|photos?|data sets?|sets?|arrays?)\b|\bone's own\b"
        r"|\bones own\b|\b(of|from) (his|her|its|their) own\b",
        finds=("own_data", "a network of one's own", "their own pictures", "of its own"),
        spares=("owner", "known data", "its own digest"),
    ),
    "picture": Entry(
        instead="image",
        names=r"(?i)\bpictures?\b",
        prose=r"\bpictures?\b",
        finds=("PICTURES", "a picture"),
        spares=("depicted",),
    ),
    "store": Entry(
        instead="cache",
        names=r"\b([Ss]tore|STORE|Draft)\b",
        finds=("store", "read_store", "Draft"),
        spares=("restore", "stored"),
        allowed_in=r"csrc/",  # vectors are loaded and stored
    ),
    "exhibit": Entry(
        instead="diagnostics",
        names=r"(?i)\bexhibits?\b",
        prose=r"\bexhibits?\b",
        finds=("exhibits", "the exhibits"),
    ),
    "keeper": Entry(
        instead="checkpointer, saved",
        names=r"(?i)\b(keepers?|kept)\b",
        prose=r"\bkeepers?\b",
        finds=("keeper", "kept", "the keeper"),
        spares=("keep", "is kept"),
        allowed_in=r"kernels",  # values are kept by dropout
    ),
    "held": Entry(
        instead="locked, compared with, checked against",
        names=r"(?i)\bheld\b",
        prose=r"\b(held|hold|holds|holding) [^.;:|]{0,70}?\bagainst\b",
        finds=("held", "is held against its budget", "Holds the run against the record"),
        spares=("holds the weights. Compare it against", "upheld"),
    ),
    "sight": Entry(
        instead="receptive field, unknown, shape error",
        names=r"(?i)\b(sights?|lookouts?|lost|blind|misfits?)\b",
        prose=r"\b(sights?|lookouts?|blind|misfits?)\b",
        finds=("Sight", "Lookout", "lost", "blind", "misfit", "the lookout"),
        spares=("insight", "is lost"),
    ),
    "mosaic": Entry(
        instead="image grid, SVG",
        names=r"(?i)\b(mosaics?|canvas)\b",
        prose=r"\b(mosaics?|canvas)\b",
        finds=("mosaic", "a canvas"),
        allowed_in=r"exporters",  # an element of HTML
    ),
    "figures": Entry(
        instead="numbers, values, measurements",
        names=r"(?i)\bfigures\b",
        prose=r"(?<=\s)figures?\b(?![/\"'`])|\bfigures?(?=\s)",
        finds=("FIGURES", "with figures", "the figure for each limit"),
        spares=("configure", "runs/figures/loss.png ", 'the folder "figures"'),
        allowed_in=r"report/|test_examples\.py$",  # figures as matplotlib has them
    ),
    "taken for": Entry(
        instead="predicted, true",
        names=r"(?i)\btaken for\b",
        prose=r"\btaken for\b",
        finds=("taken_for", "is taken for"),
    ),
    "mend": Entry(
        instead="fix, expected, missing or invalid",
        names=r"(?i)\bmend(ed|s)?\b",
        prose=r"\bmend(ed|s|ing)?\b|\b(it|which|smidgen|that) wants\b|\bwhat is not\b",
        finds=("mend", "you can mend it", "it wants", "what is not there"),
        spares=("amend", "who wants"),
    ),
    "is no": Entry(
        instead="is not a",
        prose=r"(?<!there\s)(?<!it\s)\b(is|are|was|were) no "
        r"(?!longer|more|less|fewer|better|faster|slower|larger|smaller|such|worse|shorter|lower)\w",
        finds=("is no file", "which are no classes"),
        spares=("there is no file", "is no longer", "is not a file"),
    ),
    "starter": Entry(
        instead="template, project",
        names=r"(?i)\bstarters?\b",
        prose=r"\bstarters?\b",
        finds=("starter", "a starter repository"),
        spares=("started",),
    ),
    "person": Entry(
        instead="user, you",
        names=r"(?i)\bpersons?\b",
        prose=r"\bpersons?\b",
        finds=("person", "a person's network"),
        spares=("personal",),
    ),
    "settle": Entry(
        instead="choose, configure, set",
        names=r"(?i)\bsettled?\b",
        prose=r"\b(settles?|settled|settling)\b",
        finds=("settle_threads", "is settled"),
    ),
    "beside": Entry(
        instead="next to, relative to, portable",
        names=r"(?i)\b(beside|movable)\b",
        prose=r"\b(beside|movable)\b",
        finds=("beside", "movable", "the file beside it"),
        spares=("besides",),
    ),
    "half": Entry(
        instead="bfloat16",
        names=r"(?i)^half$",
        prose=r"`half`|\bhalf=",
        finds=("half", "with `half`", "half=True"),
        spares=("half of the images",),
    ),
    "whole": Entry(
        instead="atomic",
        names=r"(?i)\b(write|read|save) whole\b|\bwhole (file|write)\b",
        prose=r"\bwhole or not at all\b|\b(written|there) whole\b",
        finds=("write_whole", "whole or not at all"),
        spares=("the whole map",),
    ),
    "spelling": Entry(
        instead="color, center, neighbor, behavior, learned, gray",
        names=r"(?i)\b(coloured|colours?|centred?|neighbours?|behaviours?|learnt|grey)\b",
        prose=r"\b(coloured|colours?|centred?|neighbours?|neighbouring|behaviours?|learnt|grey)\b",
        finds=("COLOURS", "the centre", "neighbouring", "learnt"),
        spares=("color", "center", "learned"),
    ),
    "riddles": Entry(
        instead="plain English",
        prose=r"\bso many\b|\bin its manner\b|\bwhat (came|comes|became|becomes) of\b"
        r"|\bwhere it is given\b|\bstands? in (the|its|a) record\b|\bgoes on as if\b|\bof old\b"
        r"|\bas it were\b|\bthereof\b|\bwherein\b|\blies by\b|\bin the place of\b",
        finds=("so many epochs", "what came of it", "stands in the record"),
        spares=("as many epochs",),
    ),
}


@dataclass(frozen=True)
class Text:
    """A name or a piece of prose, and where it begins."""

    path: str
    line: int
    content: str
    is_name: bool = False


def spaced(name: str) -> str:
    """An identifier as words.

    >>> spaced("RunOptions"), spaced("MAX_held_at"), spaced("_take_form2")
    ('Run Options', 'MAX held at', 'take form2')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.replace("_", " ")).strip()


def texts_of_python(path: str, content: str) -> Iterator[Text]:
    """Identifiers; strings and comments, those that follow each other as one."""
    kind, begun, pieces = 0, 0, [""]
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.NL:
            continue
        this = {tokenize.STRING: 1, FSTRING_MIDDLE: 1, tokenize.COMMENT: 2}.get(token.type, 0)
        if this != kind or this == 0:
            if kind:
                yield Text(path, begun, ("" if kind == 1 else "\n").join(pieces))
            kind, begun, pieces = this, token.start[0], []
        if this:
            pieces.append(said(token.string))
        if token.type == tokenize.NAME:
            yield Text(path, token.start[0], spaced(token.string), is_name=True)
            if token.string.startswith("test_"):  # which is prose, too
                yield Text(path, token.start[0], spaced(token.string))


def said(token: str) -> str:
    """What a string or a comment says.

    >>> said("# why"), said('rf"a{b}"')
    ('why', 'a{b}')
    """
    if token.startswith("#"):
        return token.lstrip("# ")
    return re.sub(r"^[a-zA-Z]{0,2}('''|\"\"\"|'|\")(.*)\1$", r"\2", token, flags=re.DOTALL)


def texts_of_cpp(path: str, content: str) -> Iterator[Text]:
    comment = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
    yield Text(path, 1, content)
    code = comment.sub(lambda found: "\n" * found[0].count("\n"), content)
    for number, line in enumerate(code.splitlines(), start=1):
        for name in re.findall(r"[A-Za-z_]\w*", line):
            yield Text(path, number, spaced(name), is_name=True)


@cache
def texts() -> tuple[Text, ...]:
    """All that is searched."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS, *FILES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Text] = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix not in SUFFIXES or path == Path(__file__) or not path.is_file():
            continue
        content = path.read_text(encoding="utf-8")
        found.append(Text(name, 0, " ".join(map(spaced, Path(name).parts)), is_name=True))
        if path.suffix == ".py":
            found += texts_of_python(name, content)
        elif path.suffix in (".cpp", ".hpp"):
            found += texts_of_cpp(name, content)
        else:
            found.append(Text(name, 1, content))
    return tuple(found)


def hits(entry: Entry, searched: tuple[Text, ...]) -> list[str]:
    """The uses of the words, each with its place."""
    names = re.compile(entry.names or r"(?!)")
    prose = re.compile((entry.prose or r"(?!)").replace(" ", r"\s+"), re.IGNORECASE)
    found = []
    for text in searched:
        if re.search(entry.allowed_in, text.path):
            continue
        for match in (names if text.is_name else prose).finditer(text.content):
            line = text.line + text.content.count("\n", 0, match.start())
            context = text.content[max(0, match.start() - 30) : match.end() + 30]
            found.append(f"{text.path}:{line}: {' '.join(context.split())}")
    return found


@pytest.mark.parametrize("word", GLOSSARY)
def test_no_word_is_left_that_was_given_up(word: str) -> None:
    found = hits(GLOSSARY[word], texts())
    assert not found, f"say {GLOSSARY[word].instead}:\n" + "\n".join(found)


@pytest.mark.parametrize("word", GLOSSARY)
def test_an_entry_finds_its_words_and_spares_others(word: str) -> None:
    entry = GLOSSARY[word]
    for example in entry.finds:
        assert hits(entry, both(example)), example
    for example in entry.spares:
        assert not hits(entry, both(example)), example


def both(example: str) -> tuple[Text, ...]:
    """The example as prose and, if it is one word, as a name."""
    name = Text("x", 1, spaced(example), is_name=True)
    return (Text("x", 1, example), *([] if " " in example else [name]))


def test_names_strings_and_comments_are_separated() -> None:
    code = '# one\n# two\nname = (\n    "a "\n    "b"\n)  # three\ndef test_four_five(): ...\n'
    found = [(text.line, text.content, text.is_name) for text in texts_of_python("x.py", code)]
    assert found == [
        (1, "one\ntwo", False),
        (3, "name", True),
        (4, "a b", False),
        (6, "three", False),
        (7, "def", True),
        (7, "test four five", True),
        (7, "test four five", False),
    ]


def test_every_room_is_searched() -> None:
    paths = {text.path for text in texts()}
    for path in ("README.md", "src/smidgen/kernels/csrc/network.cpp", "tests/conftest.py"):
        assert path in paths
    assert len(paths) > 150
