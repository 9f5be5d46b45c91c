/* What a stream that tests HTTP owes to it: counters raised for as long as bytes are referred to. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#define REFERENCES 16

struct references {
    struct {
        u64 end; /* of the bytes, counted from the stream's beginning */
        u32 *users;
    } of[REFERENCES];
    u32 first, last;
};

static inline bool references_room(const struct references *r, u32 count) {
    return REFERENCES - (r->last - r->first) >= count;
}

static inline void references_add(struct references *r, u64 end, u32 *users) {
    r->of[r->last % REFERENCES].end = end;
    r->of[r->last++ % REFERENCES].users = users;
    if (users)
        ++*users;
}

/* Lets go of all bytes before `acknowledged`. */
static inline void references_drop(struct references *r, u64 acknowledged) {
    for (; r->first != r->last && r->of[r->first % REFERENCES].end <= acknowledged; r->first++)
        if (r->of[r->first % REFERENCES].users)
            --*r->of[r->first % REFERENCES].users;
}
