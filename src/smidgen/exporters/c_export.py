"""The C exporter: writes the code, compiles it here, and compares it with the integer network."""

import subprocess
import tempfile
from pathlib import Path
from shutil import which

import numpy as np
from numpy.typing import NDArray

from smidgen._storage.cores import usable_cores
from smidgen.errors import ConfigError, ExportError
from smidgen.exporters.c import SOURCE, c_code
from smidgen.exporters.integer import Int8
from smidgen.exporters.job import ExportJob
from smidgen.exporters.packages import packages
from smidgen.formatting import counted
from smidgen.record import Comparison

C_FOLDER = "c"
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
_NUM_NOISE = 1000
_TIMEOUT = 600  # seconds
MAIN = """\
#include <stdio.h>
#include "smidgen_model.h"

int main(void)
{
    static uint8_t image[SMIDGEN_HEIGHT * SMIDGEN_ROW_BYTES];
    int8_t scores[SMIDGEN_CLASSES];

    while (fread(image, sizeof image, 1, stdin) == 1) {
        smidgen_predict(image, scores);
        if (fwrite(scores, sizeof scores, 1, stdout) != 1) {
            return 1;
        }
    }
    return 0;
}
"""
"""Reads images from stdin and writes their scores to stdout."""


def export_c(job: ExportJob, folder: Path) -> Comparison:
    """Write the code and what builds it into `folder`, in a folder c; all scores must be equal.

    They are compared on the test images and on 1,000 images of noise.

    Raises:
        ConfigError: there is no C compiler.
        ExportError: the code does not compile without a warning, or gives other scores.
        ModelError: the network cannot be exported, or is too large for the code.
    """
    integers, record = job.integers, job.record
    origin = f"Trained by smidgen: {job.title}."
    origin += f" License: {job.license}." if job.license else ""
    texts = c_code(
        integers, title=record.experiment.name, origin=origin, classes=record.data.classes
    )
    texts |= packages(texts, title=record.experiment.name, license=job.license)
    for name, text in texts.items():
        path = folder / C_FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shape = (_NUM_NOISE, *integers.input_shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    classes = len(record.data.classes)
    scores = _scores(folder / C_FOLDER / SOURCE, np.concatenate([job.pixels, noise]), classes)
    number = len(job.pixels)
    wrong = int((scores[number:] != integers.scores(noise)).any(1).sum())
    if wrong:
        raise ExportError(f"the scores of {counted(wrong, 'image')} of noise differ")
    return job.compare(
        scores[:number],
        "integers",
        tolerance=0,
        notes=(f"The scores of {_NUM_NOISE:,} images of noise are equal, too.",),
    )


def _scores(source: Path, images: NDArray[np.uint8], classes: int) -> Int8:
    """The scores that the compiled code gives, (images, classes)."""
    with tempfile.TemporaryDirectory() as temporary:
        program = Path(temporary) / "program"
        main = program.with_suffix(".c")
        main.write_text(MAIN, encoding="utf-8")
        _compile([str(main), str(source), f"-I{source.parent}", "-o", str(program)])
        # channels last, as the code takes them; a process for each core
        pieces = np.array_split(images.transpose(0, 2, 3, 1), usable_cores())
        inputs = [Path(temporary) / f"{number}.bin" for number in range(len(pieces))]
        for path, piece in zip(inputs, pieces, strict=True):
            path.write_bytes(piece.tobytes())
        outputs = _run_all(program, inputs)
    return np.frombuffer(b"".join(outputs), np.int8).reshape(len(images), classes)


def _run_all(program: Path, inputs: list[Path]) -> list[bytes]:
    """What the program writes for each file of images, run side by side."""
    running = []
    for path in inputs:
        with path.open("rb") as images, path.with_suffix(".out").open("wb") as scores:
            running.append(subprocess.Popen([program], stdin=images, stdout=scores))
    if any(process.wait(_TIMEOUT) for process in running):
        raise ExportError("the compiled code crashes")
    return [path.with_suffix(".out").read_bytes() for path in inputs]


def _compile(arguments: list[str]) -> None:
    compiler = next((name for name in _COMPILERS if which(name)), None)
    if compiler is None:
        raise ConfigError(
            "there is no C compiler to check the code with; install gcc or clang "
            "(apt install gcc, xcode-select --install)."
        )
    done = subprocess.run(
        [compiler, *_FLAGS, *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise ExportError(f"{compiler} says: {reason}")
