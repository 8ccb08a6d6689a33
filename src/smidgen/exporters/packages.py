"""What makes the C code easy to add to a project: Arduino library, CMake target, example."""

import re

from smidgen._version import __version__
from smidgen.exporters.c import HEADER, SOURCE, TEMPLATES

EXAMPLE, CMAKE, ARDUINO = "main.c", "CMakeLists.txt", "arduino"


def packages(code: dict[str, str], *, title: str, license: str = "") -> dict[str, str]:
    """The texts of more files, by path: an example, a CMake project, and an Arduino library.

    `code` are the texts of the header and the source file; the library has copies of them, as the
    Arduino IDE takes a library as a folder.
    """
    context = {
        "title": " ".join(title.split()),
        "version": _arduino_version(__version__),
        "license": " ".join(license.split()),
        "header": HEADER,
        "source": SOURCE,
        "example": EXAMPLE,
    }
    library = f"{ARDUINO}/smidgen_model"
    made = {
        EXAMPLE: "main.c.jinja",
        CMAKE: "CMakeLists.txt.jinja",
        f"{library}/library.properties": "library.properties.jinja",
        f"{library}/examples/classify/classify.ino": "classify.ino.jinja",
    }
    texts = {
        path: TEMPLATES.get_template(f"packages/{name}").render(context)
        for path, name in made.items()
    }
    return texts | {f"{library}/src/{name}": text for name, text in code.items()}


def _arduino_version(version: str) -> str:
    """Three numbers, as the Arduino IDE wants them.

    >>> _arduino_version("0.1.dev3")
    '0.1.0'
    """
    numbers = re.match(r"\d+(\.\d+){0,2}", version)
    assert numbers is not None
    return ".".join([*numbers[0].split("."), "0", "0"][:3])
