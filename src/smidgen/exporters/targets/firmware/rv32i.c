/* RV32I under QEMU (machine virt): start-up code, serial line, clock. QEMU loads the variables. */
#include "board.h"

__asm__(".section .start, \"ax\"\n"
        ".global _start\n"
        "_start: la sp, _stack\n"
        "    call main\n"
        "    j .\n"
        ".text\n");

#define UART ((volatile uint8_t *)0x10000000)
#define UART_STATUS UART[5]
#define TEST (*(volatile uint32_t *)0x100000)

static uint32_t started, ticks;

static uint32_t instructions(void)
{
    uint32_t count;

    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, minstret\n.option pop" : "=r"(count));
    return count;
}

void board_start(void)
{
    /* The serial line is on, and QEMU waits until a byte is taken before it sends the next. */
}

uint8_t board_read(void)
{
    while (!(UART_STATUS & 1)) {
    }
    return UART[0];
}

void board_write(char character)
{
    while (!(UART_STATUS & 0x20)) {
    }
    UART[0] = (uint8_t)character;
}

void board_start_clock(void)
{
    started = instructions();
}

void board_stop_clock(void)
{
    ticks += instructions() - started;
}

uint32_t board_ticks(void)
{
    return ticks;
}

void board_exit(void)
{
    TEST = 0x5555;
}
