/* The devices that the test machine has for tests: QEMU's edu and pci-testdev. */
#pragma once
#include "guest.h"

#define EDU 0x123411e8u     /* vendor << 16 | device */
#define TESTDEV 0x1b360005u

/* A region of a device that the test was given (NEED_DEVICE), with all rights. */
static inline struct cap device_cap(u32 which, u32 bar) {
    const struct start_item *item;

    for (u32 n = 0; (item = start_item("device", n)); n++)
        if (item->a == which && item->b == bar)
            return item->cap;
    FAIL("no region %u of device %x was given", bar, which);
}

/* Registers of edu, by number of 32-bit words. */
enum { EDU_ID, EDU_INVERT, EDU_FACTORIAL, EDU_STATUS = 8, EDU_DMA_FROM = 32, EDU_DMA_TO = 34, EDU_DMA_COUNT = 36, EDU_DMA = 38 };
#define EDU_ID_VALUE 0x010000edu
#define EDU_BUFFER 0x40000u /* its own memory, for its DMA */
