/* Reads the console, but at first does not listen: what is typed then has to wait, and nothing of it may be lost (test_console.py). */
#include "base/memory.h"
#include "base/print.h"
#include "base/start.h"
#include "base/wait.h"
#include "machine/machine.h"

#define CHARACTERS 2000
#define DEAF_MS 500

int main(void) {
    u32 page, wrong = 0;
    struct event_ring *events = memory_alloc_run(1, &page);

    if (!events || sys_event_bind(0, page) || sys_console_bind(&start_item("console", 0)->cap)) {
        print("deaf: cannot read the console\n");
        return 1;
    }
    print("deaf: does not listen\n");
    while (events->produced < EVENTS / 2)
        sys_sleep(deadline_in(10), 0, 0);
    sys_sleep(deadline_in(DEAF_MS), 0, 0);
    print("deaf: %lu wait\n", events->produced);
    while (events->consumed < CHARACTERS) {
        u64 seen = deliveries();
        while (events->consumed < __atomic_load_n(&events->produced, __ATOMIC_ACQUIRE)) {
            u64 n = events->consumed;
            wrong += events->event[n % EVENTS].a != 'a' + n % 26;
            __atomic_store_n(&events->consumed, n + 1, __ATOMIC_RELEASE);
        }
        if (events->consumed < CHARACTERS)
            wait_for_more(seen, NEVER);
    }
    print("deaf: %lu characters, %u wrong, %lu lost\n", events->consumed, wrong, events->lost);
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
