/* Classifies IMAGES images row by row; writes their scores, the stack's peak and the ticks. */
#include "board.h"
#include "smidgen_model.h"

#define PAINT 0xA5

static uint8_t row[SMIDGEN_ROW_BYTES];
static int8_t scores[SMIDGEN_CLASSES];

static void classify(void)
{
    uint16_t i;
    uint8_t y;

    board_start_clock();
    smidgen_begin();
    board_stop_clock();
    for (y = 0; y < SMIDGEN_HEIGHT; y++) {
        for (i = 0; i < SMIDGEN_ROW_BYTES; i++) {
            row[i] = board_read();
        }
        board_start_clock();
        smidgen_row(row);
        board_stop_clock();
    }
    board_start_clock();
    (void)smidgen_end(scores);
    board_stop_clock();
}

static void write_number(char label, uint32_t value)
{
    char digits[10];
    uint8_t length = 0;

    do {
        digits[length++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    board_write(label);
    while (length > 0) {
        board_write(digits[--length]);
    }
    board_write('\n');
}

static void write_scores(void)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t i;

    for (i = 0; i < SMIDGEN_CLASSES; i++) {
        if (i % 32 == 0) {
            board_write('S');
        }
        board_write(hex[(uint8_t)scores[i] >> 4]);
        board_write(hex[scores[i] & 15]);
        if (i % 32 == 31 || i == SMIDGEN_CLASSES - 1) {
            board_write('\n');
        }
    }
}

int main(void)
{
    uint8_t *top, *byte;
    uint16_t image;

    board_start();
    STACK_POINTER(top);
    for (byte = &_end; byte < top; byte++) {
        *(volatile uint8_t *)byte = PAINT;
    }
    for (image = 0; image < IMAGES; image++) {
        classify();
        if (image == 0) {
            for (byte = &_end; byte < top && *(volatile uint8_t *)byte == PAINT; byte++) {
            }
            write_number('T', (uint32_t)(top - byte));
            write_number('C', board_ticks());
        }
        write_scores();
    }
    board_exit();
    return 0;
}
