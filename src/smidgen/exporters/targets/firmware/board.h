/* What the simulated boards offer to main.c. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Starts the serial line and the clock. */
void board_start(void);
/* The next byte of the images. */
uint8_t board_read(void);
/* Writes a character to the serial line. */
void board_write(char character);
/* The clock runs between these two. */
void board_start_clock(void);
void board_stop_clock(void);
/* Ticks for which it ran; the unit is the board's. */
uint32_t board_ticks(void);
/* Ends the simulation. */
void board_exit(void);

extern uint8_t _end; /* the first byte after the variables, from the linker */

#ifdef __AVR__
#define STACK_POINTER(pointer) ((pointer) = (uint8_t *)(*(volatile uint16_t *)0x5D) + 1)
#elif defined(__arm__)
#define STACK_POINTER(pointer) __asm__ volatile("mov %0, sp" : "=r"(pointer))
#else
#define STACK_POINTER(pointer) __asm__ volatile("mv %0, sp" : "=r"(pointer))
#endif

#endif
