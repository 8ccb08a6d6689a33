"""The microcontrollers, their compilers and their simulators."""

from dataclasses import dataclass
from typing import Literal

_QEMU = ("-display", "none", "-monitor", "none", "-serial", "stdio", "-icount", "shift=0")
"""The serial line is stdin and stdout, and an instruction takes a nanosecond."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A microcontroller."""

    title: str
    tools: str
    """Prefix of the compiler's and the linker's names."""
    flags: tuple[str, ...]
    """Of the compiler."""
    link_flags: tuple[str, ...]
    """{firmware} stands for the folder with start-up code and linker scripts."""
    source: str
    """Start-up code, serial line and clock of the simulated board."""
    simulator: tuple[str, ...]
    """Command; the image's file is appended."""
    unit: Literal["cycles", "instructions"]
    """What the simulator counts."""
    units_per_tick: float
    """Of the board's clock."""
    flash_bytes: int
    """Of the simulated board."""
    ram_bytes: int

    @property
    def compiler(self) -> str:
        """The compiler's command."""
        return f"{self.tools}gcc"

    @property
    def is_avr(self) -> bool:
        """Whether it has no serial input and counts cycles in a file: simavr."""
        return self.simulator[0] == "simavr"


TARGETS = {
    "atmega328p": Target(
        title="ATmega328P under simavr",
        tools="avr-",
        flags=(
            "-mmcu=atmega328p",
            # together they save about 500 bytes of flash
            *("-mcall-prologues", "-fno-split-wide-types", "-fno-tree-loop-optimize"),
        ),
        link_flags=("-Wl,--undefined=_mmcu,--section-start=.mmcu=0x910000",),
        source="atmega328p.c",
        simulator=("simavr", "-m", "atmega328p"),
        unit="cycles",
        units_per_tick=1,
        flash_bytes=32 * 1024,
        ram_bytes=2 * 1024,
    ),
    "cortex-m0": Target(
        title="Cortex-M0 under QEMU (micro:bit)",
        tools="arm-none-eabi-",
        flags=("-mcpu=cortex-m0", "-mthumb"),
        link_flags=("-nostdlib", "-T{firmware}/cortex_m0.ld"),
        source="cortex_m0.c",
        simulator=(
            "qemu-system-arm",
            "-machine",
            "microbit",
            "-semihosting-config",
            "enable=on,target=native",
            *_QEMU,
            "-kernel",
        ),
        unit="instructions",
        units_per_tick=1000 / 16,  # MHz
        flash_bytes=256 * 1024,
        ram_bytes=16 * 1024,
    ),
    "rv32i": Target(
        title="RV32I under QEMU (virt)",
        tools="riscv64-unknown-elf-",
        flags=("-march=rv32i", "-mabi=ilp32"),
        link_flags=("-nostdlib", "-T{firmware}/rv32i.ld"),
        source="rv32i.c",
        simulator=("qemu-system-riscv32", "-machine", "virt", "-bios", "none", *_QEMU, "-kernel"),
        unit="instructions",
        units_per_tick=1,
        flash_bytes=512 * 1024,
        ram_bytes=512 * 1024,
    ),
}
"""By the names that users give."""
