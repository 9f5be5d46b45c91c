/* The server's side of the swap protocol (vm/swap.h): a program that calls swap_serve and then
 * sleeps for ever is a swap server. Pages are allocated when they are asked for and freed when
 * they are returned or when their holder has ended; what they hold is never looked at. */
#pragma once
#include "rt.h"

struct swap_state {
    u32 lent;    /* pages */
    u64 views;   /* capabilities given to read */
    u64 refused; /* orders */
};
extern struct swap_state swap_state;

/* From now on serves by control transfer, with at most so many pages lent. */
void swap_serve(u32 most);
