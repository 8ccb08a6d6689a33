"""The CMake project builds and classifies, and the Arduino sketch compiles."""

import re
import subprocess
from functools import cache
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from exported_networks import NETWORKS, SHAPE

from smidgen.exporters.c import HEADER, SOURCE, c_code
from smidgen.exporters.integer import IntegerNetwork
from smidgen.exporters.packages import packages
from smidgen.exporters.targets.estimate import untrained_integers

ARDUINO = """
#include <stddef.h>
#include <stdint.h>
struct Line {
    void begin(long);
    size_t readBytes(uint8_t *, size_t);
    void print(char);
    void print(uint8_t);
    void print(int8_t);
    void println();
};
extern Line Serial;
"""


@cache
def integers() -> IntegerNetwork:
    return untrained_integers(NETWORKS["flat"](), SHAPE, 4)


def written(folder: Path) -> Path:
    code = c_code(integers(), title="t", origin="o", classes=["a"] * 5)
    for path, text in {**code, **packages(code, title="a\n title", license="MIT")}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_cmake_project_builds_an_example_that_classifies(tmp_path: Path) -> None:
    if which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder, build = written(tmp_path), tmp_path / "build"
    run("cmake", "-S", folder, "-B", build, "-DCMAKE_C_FLAGS=-Wall -Wextra -Wpedantic -Werror")
    run("cmake", "--build", build)
    image = np.random.default_rng(0).integers(0, 256, (1, *SHAPE), np.uint8)
    (tmp_path / "image.raw").write_bytes(image.transpose(0, 2, 3, 1).tobytes())
    (scores,) = integers().scores(image)
    said = run(build / "classify", tmp_path / "image.raw")
    listed = " ".join(map(str, scores))
    assert said == f"{tmp_path / 'image.raw'}: class {scores.argmax()}, scores {listed}\n"
    short = subprocess.run([build / "classify", folder / HEADER, "none"], capture_output=True)
    assert short.returncode == 1
    assert b"none: cannot be read, or is too short" in short.stderr


@pytest.mark.slow
def test_other_cmake_projects_can_add_it(tmp_path: Path) -> None:
    if which("cmake") is None:
        pytest.skip("cmake is not installed")
    (tmp_path / "model").mkdir()
    written(tmp_path / "model")
    (tmp_path / "mine.c").write_text(
        f'#include "{HEADER}"\nint main(void) {{ smidgen_begin(); return 0; }}\n'
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(mine C)\nadd_subdirectory(model)\n"
        "add_executable(mine mine.c)\ntarget_link_libraries(mine smidgen_model)\n"
    )
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build")
    run("cmake", "--build", tmp_path / "build")
    run(tmp_path / "build" / "mine")


@pytest.mark.parametrize("compiler", ["avr-g++", "g++"])
def test_the_arduino_sketch_compiles(compiler: str, tmp_path: Path) -> None:
    if which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    library = written(tmp_path) / "arduino" / "smidgen_model"
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    sketch = library / "examples" / "classify" / "classify.ino"
    chip = ["-mmcu=atmega328p"] if compiler == "avr-g++" else []
    flags = [*chip, "-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-x", "c++", "-include"]
    given: list[str | Path] = [tmp_path / "Arduino.h", f"-I{library / 'src'}", "-c", sketch]
    run(compiler, *flags, *given, "-o", tmp_path / "sketch.o")
    assert (library / "src" / SOURCE).read_text() == (tmp_path / SOURCE).read_text()


def test_library_properties_are_one_line_each(tmp_path: Path) -> None:
    path = written(tmp_path) / "arduino" / "smidgen_model" / "library.properties"
    lines = path.read_text().splitlines()
    assert all(re.fullmatch(r"[a-z]+=.+", line) for line in lines)
    names = dict(line.split("=", 1) for line in lines)
    assert re.fullmatch(r"\d+\.\d+\.\d+", names["version"])
    assert names["sentence"].startswith("a title: ")
    assert names["includes"] == HEADER
