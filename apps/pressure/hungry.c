/* One that needs memory for a while, again and again: asks for it, uses it, checks it, lets it
 * go. */
#include "common.h"
#include "vm/vm.h"

static u32 failed;

/* Writes all pages and reads them again. */
static void use(struct vm_region *r) {
    volatile u64 *at = (volatile u64 *)r->at;

    for (u64 i = 0; i < r->pages; i++)
        at[i * 512 + i % 512] = i + 1;
    for (u64 i = 0; i < r->pages; i++)
        failed += at[i * 512 + i % 512] != i + 1;
}

int main(void) {
    u32 step = argument("step", 1024), most = argument("most", 4096), have = 0;

    if (vm_init(&(struct vm_options){.frames = most + step}))
        return 1;
    sys_sleep(deadline_in(argument("after", 8000)), 0, 0);
    for (;;) {
        bool got = have < most && ask_for(step, 3000);
        if (got) {
            have += step;
            print("hungry: got room for %u pages more, %u in all\n", step, own()->page_limit);
        } else if (have < most) {
            print("hungry: there is no room for %u pages more\n", step);
        }
        struct vm_region *r = have ? vm_make(have, &(struct vm_region){.ahead = 16}) : NULL;
        if (r) {
            use(r);
            print("hungry: used %u pages, %u wrong\n", have, failed);
        }
        sys_sleep(deadline_in(3000), 0, 0);
        if (r)
            vm_end(r);
    }
}
