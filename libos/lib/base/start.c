/* Reading the start page. */
#include "base/start.h"

const struct start_item *start_item(const char *name, u32 number) {
    const struct start *start = (const struct start *)RT_START;

    for (u32 i = 0; i < start->items && i < START_ITEMS; i++)
        if (!strncmp(start->item[i].name, name, sizeof start->item[i].name) && number-- == 0)
            return &start->item[i];
    return NULL;
}

const char *start_arguments(void) { return ((const struct start *)RT_START)->arguments; }
