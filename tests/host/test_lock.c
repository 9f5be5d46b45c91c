/* The order of locks, as debug builds check it: what kernel/README.md allows passes, and what it forbids ends in a panic. */
#include "lib/base.h"

#include <asm/prctl.h>
#include <setjmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

static jmp_buf panicked;
static NORETURN void caught(const char *format, ...) {
    (void)format;
    longjmp(panicked, 1);
}
#define panic caught
#include "core/lock.c"
#undef panic

u32 cpu_count = 1;
struct cpu *cpus[MAX_CPUS];
static struct cpu cpu = {.self = &cpu};
void shootdown_answer(void) {}

static int start(void **state) {
    (void)state;
    cpu.held = 0;
    return (int)syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu);
}

/* Whether taking these two, one after the other, is caught. */
static bool caught_at(u32 first, u32 second) {
    struct lock a = LOCK("a", first), b = LOCK("b", second);

    cpu.held = 0;
    if (setjmp(panicked))
        return true;
    spin_lock(&a);
    spin_lock(&b);
    spin_unlock(&b);
    spin_unlock(&a);
    assert_int_equal(cpu.held, 0);
    return false;
}

/* Every pair of ranks: only downwards, and two environments. */
static void test_every_pair(void **state) {
    (void)state;
    for (u32 first = LOCK_ENVS; first <= LOCK_SERIAL; first++)
        for (u32 second = LOCK_ENVS; second <= LOCK_SERIAL; second++) {
            bool allowed = second > first || (first == LOCK_ENV && second == LOCK_ENV);
            assert_int_equal(caught_at(first, second), !allowed);
        }
}

/* One that has been let go of no longer counts; one that is held does, whatever was taken and let go of after it. */
static void test_what_is_held_counts(void **state) {
    struct lock net = LOCK("net", LOCK_NET), event = LOCK("event", LOCK_EVENT), slices = LOCK("slices", LOCK_SLICES);

    (void)state;
    if (setjmp(panicked))
        fail_msg("a good order was refused");
    spin_lock(&net);
    spin_unlock(&net);
    spin_lock(&slices);
    spin_unlock(&slices);
    spin_lock(&net);
    spin_lock(&event);
    spin_unlock(&event);
    if (!setjmp(panicked)) {
        spin_lock(&slices);
        fail_msg("slices were locked within net");
    }
    assert_int_equal(slices.taken, 0); /* it is caught before it is taken: two CPUs that do this do not wait for each other */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_pair, start),
        cmocka_unit_test_setup(test_what_is_held_counts, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
