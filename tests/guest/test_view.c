/* Looking at an environment that ends meanwhile. */
#include "guest.h"

static void note(struct frame *f) {
    if (!machine_fault(f))
        rt_exit(f->cause);
}

/* Whoever looks at an environment's page when it ends reads zeros from then on; its page is free at once. */
ROLE(viewer) {
    rt_on_exception(note);
    const volatile struct env *e = machine_env((u32)up->word[0]);

    CHECK(e && e->state == ENV_LIVE);
    up->word[1] = 1;
    while (e->state) /* it is DYING for a while */
        sys_yield();
    EQUAL(e->root, 0);
    CHECK(!machine_env((u32)up->word[0]) || machine_env((u32)up->word[0])->state != ENV_LIVE);
    machine_forget();
    up->word[2] = 1;
    sys_sleep(NEVER, 0, 0);
}
TEST(view_ended) {
    struct peer viewer, e = bare_env(8, 0);
    u32 page = e.env;

    down->word[0] = page;
    start_peer(&viewer, "viewer", 0);
    wait_for(&down->word[1], 1);
    end_peer(&e);
    EQUAL(type_of(page), PAGE_FREE);
    wait_for(&down->word[2], 1);
    end_peer(&viewer);
}
