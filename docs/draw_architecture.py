"""Draw docs/architecture.svg, the rooms of src/smidgen and their imports, from the code itself.

    python docs/draw_architecture.py

The order of the rooms is that of the layers in pyproject.toml, the text next to each is the first
sentence of its docstring, and an arrow goes from a room to one that it imports. Arrows that follow
from others are left out: if `a` imports `b` and `b` imports `c`, none is drawn from `a` to `c`.
"""

import ast
import re
import tomllib
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
DIAGRAM = ROOT / "docs" / "architecture.svg"
NOT_ROOMS = {"__main__", "_version", "errors"}
"""An entry point, a constant, and exceptions that every room imports."""

ROW, BOX_LEFT, BOX_WIDTH, BOX_HEIGHT, WIDTH = 36, 170, 130, 26, 920


def rooms_in_order() -> list[str]:
    """The rooms from the top layer to the bottom one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = [room.strip(" ()") for layer in layers for room in layer.replace(":", "|").split("|")]
    return [room for room in rooms if room not in NOT_ROOMS]


def imports_between(rooms: list[str]) -> dict[str, set[str]]:
    """For each room, the rooms that any of its modules imports, lazily or at the top of a file."""
    graph = grimp.build_graph("smidgen", exclude_type_checking_imports=True, cache_dir=None)
    imported: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules - {"smidgen"}:
        room = module.split(".")[1]
        if room not in imported:
            continue
        for target in graph.find_modules_directly_imported_by(module) - {"smidgen"}:
            if (other := target.split(".")[1]) in imported and other != room:
                imported[room].add(other)
    return imported


def reduced(imported: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports that do not follow from others; `imported` goes from upper to lower rooms only.

    >>> reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    {'a': {'b'}, 'b': {'c'}, 'c': set()}
    """
    reached: dict[str, set[str]] = {}
    for room in reversed(imported):
        missing = imported[room] - reached.keys()
        if missing:
            raise ValueError(f"{room} imports {', '.join(sorted(missing))}, which is not below it")
        reached[room] = set().union(imported[room], *(reached[below] for below in imported[room]))
    return {
        room: {to for to in below if not any(to in reached[other] for other in below - {to})}
        for room, below in imported.items()
    }


def purpose(room: str) -> str:
    """Return the first sentence of the room's docstring, without the full stop."""
    folder = ROOT / "src" / "smidgen" / room
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first_line = docstring.partition("\n")[0]
    return re.split(r"\.( |$)| \(", first_line)[0]


def drawing() -> str:
    """Return the diagram as SVG."""
    rooms = rooms_in_order()
    middle = {room: 20 + ROW * place + BOX_HEIGHT // 2 for place, room in enumerate(rooms)}
    height = 20 + ROW * len(rooms)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>The rooms of smidgen and their imports</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#4a6fa5"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for room, below in reduced(imports_between(rooms)).items():
        for other in sorted(below, key=rooms.index):
            start, end = middle[room] + 5, middle[other] - 5
            bulge = BOX_LEFT - 20 - 14 * (rooms.index(other) - rooms.index(room))
            lines.append(
                f'<path d="M{BOX_LEFT} {start}C{bulge} {start} {bulge} {end} {BOX_LEFT} {end}" '
                'fill="none" stroke="#4a6fa5" stroke-width="1.3" marker-end="url(#tip)"/>'
            )
    for room in rooms:
        top = middle[room] - BOX_HEIGHT // 2
        lines += [
            f'<rect x="{BOX_LEFT}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" '
            'fill="#e8eef7" stroke="#4a6fa5"/>',
            f'<text x="{BOX_LEFT + BOX_WIDTH // 2}" y="{middle[room] + 5}" '
            f'text-anchor="middle" font-weight="600">{room}</text>',
            f'<text x="{BOX_LEFT + BOX_WIDTH + 16}" y="{middle[room] + 5}" fill="#333">'
            f"{escape(purpose(room))}</text>",
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    DIAGRAM.write_text(drawing(), encoding="utf-8")
