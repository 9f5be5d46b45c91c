/* Makes two environments and says so: what becomes of them when it is killed is the test's concern (test_orphans.py). */
#include "base/print.h"
#include "base/start.h"

#define CHILDREN 2

int main(void) {
    struct env_spec spec = {.name = "child", .page_limit = 8};
    struct cap cap;

    for (u32 i = 0; i < CHILDREN; i++) {
        s64 page = sys_page_alloc(0, PAGE_ANY, 2, 1, 0);
        s64 error = page < 0 ? page : sys_env_create((u32)page, (u32)page + 1, &spec, &cap);
        if (error >= 0)
            error = sys_page_alloc(&cap, PAGE_ANY, 4, 0, 0);
        if (error < 0) {
            print("parent: %s\n", error_name(error));
            return 1;
        }
    }
    print("parent: %u children\n", CHILDREN);
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
