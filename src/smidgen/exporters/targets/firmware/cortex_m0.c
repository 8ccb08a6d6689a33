/* Cortex-M0 under QEMU (micro:bit): start-up code, serial line, clock. */
#include "board.h"

extern uint32_t _stack, _data, _edata, _data_in_flash, _bss;
int main(void);

__attribute__((noreturn)) static void reset(void)
{
    uint32_t *to, *from = &_data_in_flash;

    for (to = &_data; to < &_edata; to++) {
        *to = *from++;
    }
    for (to = &_bss; to < (uint32_t *)&_end; to++) {
        *to = 0;
    }
    (void)main();
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    &_stack, (const void *)reset,
};

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART 0x40002000
#define UART_START_RX REGISTER(UART)
#define UART_START_TX REGISTER(UART + 0x008)
#define UART_RECEIVED REGISTER(UART + 0x108)
#define UART_SENT REGISTER(UART + 0x11C)
#define UART_ENABLE REGISTER(UART + 0x500)
#define UART_RXD REGISTER(UART + 0x518)
#define UART_TXD REGISTER(UART + 0x51C)
#define SYSTICK_CONTROL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_VALUE REGISTER(0xE000E018)

static uint32_t started, ticks;

void board_start(void)
{
    UART_ENABLE = 4;
    UART_START_RX = 1;
    UART_START_TX = 1;
    SYSTICK_RELOAD = 0xFFFFFF;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 5; /* on, at the processor's 16 MHz */
}

uint8_t board_read(void)
{
    while (!UART_RECEIVED) {
    }
    UART_RECEIVED = 0;
    return (uint8_t)UART_RXD;
}

void board_write(char character)
{
    UART_SENT = 0;
    UART_TXD = (uint8_t)character;
    while (!UART_SENT) {
    }
}

void board_start_clock(void)
{
    started = SYSTICK_VALUE;
}

void board_stop_clock(void)
{
    ticks += (started - SYSTICK_VALUE) & 0xFFFFFF;
}

uint32_t board_ticks(void)
{
    return ticks;
}

void board_exit(void)
{
    register uint32_t operation __asm__("r0") = 0x18;    /* semihosting: exit, */
    register uint32_t reason __asm__("r1") = 0x20026; /* the program ended */

    __asm__ volatile("bkpt 0xAB" : : "r"(operation), "r"(reason));
}
