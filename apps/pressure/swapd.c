/* A swap server: lends its pages to others, who save contents in them and get them back. It does
 * nothing by itself: all work is done in its callers' time. */
#include "common.h"
#include "vm/swap_server.h"

int main(void) {
    u64 said = 0;

    swap_serve(argument("pages", 256));
    for (;;) {
        sys_sleep(deadline_in(2000), 0, 0);
        u64 now = swap_state.lent + swap_state.views;
        if (now != said)
            print("swapd: %u pages lent, read %lu times\n", swap_state.lent, swap_state.views);
        said = now;
    }
}
