"""Flash, RAM and cycles of the C code on a target: from its linked object and a simulator."""

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import numpy as np
from numpy.typing import NDArray

from smidgen.errors import ExportError
from smidgen.exporters.c import SOURCE
from smidgen.exporters.integer import Int8
from smidgen.exporters.targets.target import TARGETS, Target
from smidgen.record import Measurement

_FIRMWARE = Path(__file__).parent / "firmware"
_OPTIONS = ("-std=gnu99", "-Os", "-ffreestanding", "-fno-asynchronous-unwind-tables")
_AVR_LARGE = "-Wl,--defsym=__DATA_REGION_LENGTH__=0xf000,--defsym=__TEXT_REGION_LENGTH__=0x800000"
"""Lets the model be linked, and so measured, if it is too large for the chip."""
_TEST_CODE_BYTES = 2048
"""At most, of an image without the model's code and the pixels."""


class _NotMeasuredError(Exception):
    """Says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Simulation:
    scores: Int8
    """(images, classes)."""
    stack_bytes: int
    """Its peak, below the caller."""
    count: int
    """Cycles or instructions for one image."""


def measure(
    files: Mapping[str, str], name: str, images: NDArray[np.uint8], scores: Int8
) -> Measurement:
    """What the C code needs on the target called `name`.

    `files` are texts by file name, as c_code returns them. The code classifies `images` (images,
    channels, height, width) in a simulator, and must answer with `scores` (images, classes).

    Raises:
        ExportError: the code does not compile, or its scores are others.
    """
    target = TARGETS[name]
    flash = static = None
    try:
        _require(target.compiler)
        with tempfile.TemporaryDirectory() as folder:
            for file, text in files.items():
                (Path(folder) / file).write_text(text, encoding="utf-8")
            flash, static = _linked_size(target, Path(folder))
            _require(target.simulator[0])
            if static > target.ram_bytes:
                raise _NotMeasuredError(f"its RAM of {target.ram_bytes:,} bytes is too small")
            found = _simulate(target, Path(folder), images, scores.shape[1], flash)
    except _NotMeasuredError as error:
        return Measurement(
            target=name, flash_bytes=flash, static_bytes=static, unit=target.unit, note=f"{error}"
        )
    differing = np.flatnonzero((found.scores != scores).any(1))
    if len(differing):
        raise ExportError(
            f"{target.title}: the scores of {len(differing):,} of {len(images):,} images differ "
            f"from the integer network's, first those of image {differing[0]}"
        )
    return Measurement(
        target=name,
        flash_bytes=flash,
        static_bytes=static,
        stack_bytes=found.stack_bytes,
        unit=target.unit,
        count=found.count,
    )


def _require(tool: str) -> None:
    if which(tool) is None:
        raise _NotMeasuredError(f"{tool} is not installed")


def _linked_size(target: Target, folder: Path) -> tuple[int, int]:
    """Flash and static RAM of the model with the compiler's own functions that it calls."""
    options = [_AVR_LARGE, "-nostdlib"] if target.is_avr else _link_flags(target)
    linked = _compile(target, folder, "model.elf", [SOURCE], [*options, "-Wl,-esmidgen_predict"])
    done = _run([f"{target.tools}size", str(linked)], folder)
    text, data, bss = (int(word) for word in done.splitlines()[1].split()[:3])
    return text + data, data + bss


def _link_flags(target: Target) -> list[str]:
    return [flag.format(firmware=_FIRMWARE) for flag in target.link_flags]


def _compile(
    target: Target, folder: Path, out: str, sources: Sequence[str], options: Sequence[str]
) -> Path:
    given = [target.compiler, *target.flags, *_OPTIONS, "-I.", *sources, *options]
    _run([*given, "-lgcc", "-o", out], folder)
    return folder / out


def _run(command: Sequence[str], folder: Path, given: bytes = b"") -> str:
    """Run a command in the folder; its output, with stderr, to which simavr writes."""
    try:
        done = subprocess.run(
            command, cwd=folder, input=given, capture_output=True, check=False, timeout=600
        )
    except subprocess.TimeoutExpired:
        raise _NotMeasuredError(f"{command[0]} took more than ten minutes") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"status {done.returncode}"
        raise ExportError(f"{command[0]}: {said.splitlines()[0]}")
    return (done.stdout + done.stderr).decode(errors="replace")


def _simulate(
    target: Target, folder: Path, images: NDArray[np.uint8], classes: int, flash_bytes: int
) -> _Simulation:
    """Classify the images in the simulator; stack and count are those of the first one."""
    pixels = images.transpose(0, 2, 3, 1).reshape(len(images), -1)
    at_once = len(images)
    if target.is_avr:  # the images are in flash too
        at_once = (target.flash_bytes - flash_bytes - _TEST_CODE_BYTES) // pixels.shape[1]
        if at_once < 1:
            raise _NotMeasuredError("its flash is too small for the code and an image")
    parts = [
        _simulate_some(target, folder, pixels[start : start + at_once], classes)
        for start in range(0, len(pixels), at_once)
    ]
    return _Simulation(
        scores=np.concatenate([part.scores for part in parts]),
        stack_bytes=parts[0].stack_bytes,
        count=parts[0].count,
    )


def _simulate_some(
    target: Target, folder: Path, pixels: NDArray[np.uint8], classes: int
) -> _Simulation:
    (folder / "images.bin").write_bytes(pixels.tobytes())
    sources = [SOURCE, *(str(_FIRMWARE / name) for name in ("main.c", target.source))]
    options = [f"-I{_FIRMWARE}", f"-DIMAGES={len(pixels)}", *_link_flags(target)]
    image = _compile(target, folder, "image.elf", sources, options)
    given = b"" if target.is_avr else pixels.tobytes()
    said = _run([*target.simulator, str(image)], folder, given)
    lines = re.findall(r"([STC])([0-9a-f]+)", said)
    scores = bytes.fromhex("".join(text for kind, text in lines if kind == "S"))
    numbers = {kind: int(text) for kind, text in lines if kind != "S"}
    if len(scores) != len(pixels) * classes or numbers.keys() != {"T", "C"}:
        raise ExportError(f"{target.title}: the simulated program ended early")
    ticks = _clocked(folder, numbers["C"]) if target.is_avr else numbers["C"]
    return _Simulation(
        scores=np.frombuffer(scores, np.int8).reshape(len(pixels), classes),
        stack_bytes=numbers["T"],
        count=round(ticks * target.units_per_tick),
    )


def _clocked(folder: Path, intervals: int) -> int:
    """Cycles in the first `intervals` intervals in which the clock ran, by simavr's file."""
    text = (folder / "clock.vcd").read_text()
    changes = re.findall(r"^#(\d+)\n([01])!", text, re.MULTILINE)
    times = [int(time) for time, _ in changes[: 2 * intervals]]
    return sum(times[1::2]) - sum(times[::2])
