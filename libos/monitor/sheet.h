/* A sheet of text in memory: what does not fit is left out. */
#pragma once
#include "rt.h"

struct sheet {
    char *at;
    u32 size, used; /* at[used] is 0 */
    bool nothing;   /* all it says is why there is nothing to show */
};
/* As print does. */
void say(struct sheet *s, const char *text, ...) __attribute__((format(printf, 2, 3)));
