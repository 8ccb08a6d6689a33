/* ATmega328P under simavr: images.bin in flash, as simavr's command reads no serial line. simavr
 * records GPIOR0 with the time in cycles: it is 1 while the clock runs. */
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/sleep.h>

#include "board.h"

__asm__(".section .progmem.data,\"a\",@progbits\n"
        ".global images\n"
        "images: .incbin \"images.bin\"\n"
        ".text\n");
extern const uint8_t images[];
static uint16_t place, intervals;

/* simavr reads these entries of the ELF file: tag, length, value. */
#define ENTRY __attribute__((section(".mmcu"), used))
static const struct {
    uint8_t tag, length;
    char text[64];
} file ENTRY = { 12, 64, "clock.vcd" };
static const struct {
    uint8_t tag, length;
    uint32_t value;
} __attribute__((packed)) frequency ENTRY = { 2, 4, 100000000 }; /* a cycle is 10 ns, the unit of its times */
static const struct {
    uint8_t tag, length, mask;
    const volatile void *address;
    char name[32];
} __attribute__((packed)) trace ENTRY = { 14, 35, 1, &GPIOR0, "clock" };
const uint8_t _mmcu[2] ENTRY = { 0, 0 };

void board_start(void)
{
    UCSR0B = 1 << TXEN0;
}

uint8_t board_read(void)
{
    return pgm_read_byte(images + place++);
}

void board_write(char character)
{
    while (!(UCSR0A & (1 << UDRE0))) {
    }
    UDR0 = (uint8_t)character;
}

void board_start_clock(void)
{
    GPIOR0 = 1;
}

void board_stop_clock(void)
{
    GPIOR0 = 0;
    intervals++;
}

/* Only how often the clock ran: clock.vcd has the times. */
uint32_t board_ticks(void)
{
    return intervals;
}

void board_exit(void)
{
    cli();
    sleep_mode();
}
