/* Holds a condition against the kernel's own rules, and frames against the condition; `targe filter`
 * calls it. Standard input: a line for each atom (kind offset width mask value high), a line `frames`,
 * and then lines of hexadecimal bytes, a frame each. Standard output: the kernel's error, or for each
 * frame 1 or 0. */
#include "net/filter.h"

#include <stdio.h>
#include <string.h>

#define FRAME_MOST 65535

static bool read_atoms(struct condition *c) {
    char line[128];
    unsigned kind, offset, width, mask, value, high;

    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "%u %u %u %u %u %u", &kind, &offset, &width, &mask, &value, &high) != 6)
            return !strcmp(line, "frames\n");
        if (c->count == ATOMS)
            return false;
        c->atom[c->count++] = (struct atom){.offset = (u16)offset,
                                            .width = (u8)width,
                                            .kind = (u8)kind,
                                            .mask = mask,
                                            .value = value,
                                            .high = high};
    }
    return true;
}

static u32 bytes_of(const char *hex, u8 *frame) {
    u32 length = 0;
    unsigned byte;

    while (length < FRAME_MOST && sscanf(hex + 2 * length, "%2x", &byte) == 1)
        frame[length++] = (u8)byte;
    return length;
}

int main(void) {
    static char line[2 * FRAME_MOST + 3];
    static u8 frame[FRAME_MOST + 8];
    struct condition c = {0};
    struct masked m;

    if (!read_atoms(&c)) {
        puts("more atoms than a condition has");
        return 1;
    }
    if (filter_normalize(&c, &m)) {
        puts("the kernel would refuse it: BAD_ARGUMENT");
        return 1;
    }
    while (fgets(line, sizeof(line), stdin))
        puts(filter_match(&m, frame, bytes_of(line, frame), 0) ? "1" : "0");
    return 0;
}
