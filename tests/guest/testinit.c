/* The runner: takes init's place, so the kernel gives it everything. It prints one line a test and
 * ends the machine. `only=NAME` on the kernel's command line runs one test.
 *
 * After each test everything must be as before: the free pages, this environment's own pages, and
 * the kernel's checker finds no contradiction. */
#include "base/archive.h"
#include "guest.h"

#define TEST_PAGES 4096
#define TEST_SLOTS 40 /* of CPU 0, of which a test itself gets a few and its peers the others */

static struct { struct cap machine, console, flow; } caps;
static struct event_ring *events;
static struct cap program_cap;
static u64 program_bytes;
static const u8 *program;
static char reason[600];
static u32 down_page;

static NORETURN void give_up(const char *what) {
    print("testinit: %s\n", what);
    for (;;)
        sys_machine_off(&caps.machine, POWER_FAIL);
}

static void add(struct start *start, const char *name, struct cap cap) {
    struct start_item *added = &start->item[start->items++];

    memcpy(added->name, name, strlen(name));
    added->cap = cap;
}

static struct cap narrowed(const struct cap *from, u8 rights) {
    struct cap cap = *from;

    cap.rights = rights;
    if (sys_cap_derive(from, &cap))
        give_up("a capability cannot be derived");
    return cap;
}

/* Every region of a device's memory; ownership comes back here when the test ends. */
static void add_devices(struct start *start) {
    const struct info *info = machine_info();

    for (const struct device *d = info->device; d < info->device + info->devices; d++) {
        struct cap cap = {.type = CAP_PAGE,
                          .rights = RIGHT_READ | RIGHT_WRITE | RIGHT_OWN,
                          .name = d->first,
                          .count = d->pages};
        /* A test may have owned a part of it: then the pages have come back with different generations. */
        sys_page_revoke(0, d->first, d->pages);
        if (sys_cap_derive(0, &cap))
            give_up("a device's memory is not this environment's");
        add(start, "device", cap);
        start->item[start->items - 1].a = (u64)d->vendor << 16 | d->device;
        start->item[start->items - 1].b = d->bar;
    }
}

static bool has_edu(void) {
    const struct info *info = machine_info();

    for (u32 i = 0; i < info->devices; i++)
        if (info->device[i].vendor == 0x1234 && info->device[i].device == 0x11e8)
            return true;
    return false;
}

static s64 start_test(const struct test *t, struct spawn *s) {
    static struct start start;
    static const struct spawn_slices slices[] = {{0, 4}};
    struct cap share = {
        .type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .count = 1, .name = down_page};

    memset(&start, 0, sizeof start);
    memcpy(start.arguments, t->name, strlen(t->name));
    sys_cap_derive(0, &share);
    add(&start, "share", share);
    add(&start, "program", program_cap);
    start.item[1].a = program_bytes;
    if (t->needs & NEED_MACHINE)
        add(&start, "machine", narrowed(&caps.machine, RIGHT_TRACE));
    if (t->needs & NEED_CONSOLE)
        add(&start, "console", narrowed(&caps.console, RIGHT_WRITE));
    if (t->needs & NEED_FLOW)
        add(&start, "flow", caps.flow);
    if (t->needs & (NEED_DEVICE | NEED_ANY_DEVICE))
        add_devices(&start);
    *s = (struct spawn){.name = t->name,
                        .image = program,
                        .image_bytes = program_bytes,
                        .page_limit = TEST_PAGES,
                        .slice_limit = TEST_SLOTS * machine_info()->cpus,
                        .start = &start,
                        .slices = slices,
                        .slice_kinds = 1};
    return spawn(s);
}

/* Waits for the test's end. False: it went on for too long. */
static bool await_end(u32 env, u64 ms, struct event *event) {
    while (next_event(events, event, ms))
        if (event->type == EVENT_ENDED && event->env == env)
            return true;
    return false;
}

/* What is wrong with a test's end; NULL: nothing. */
static const char *judge(const struct test *t, bool ended, const struct event *e) {
    static const char *const how[] = {"", "stopped", "fault", "overrun"};

    if (down->failed)
        format(reason, sizeof reason, "%s", down->text);
    else if (!ended)
        format(reason, sizeof reason, "no end within %u s", t->seconds ? t->seconds : TEST_SECONDS);
    else if (e->a != (t->ends ? t->ends : END_STOPPED) || (!t->ends && e->b))
        format(reason, sizeof reason, "it ended by %s, %lx", how[e->a & 3], e->b);
    else
        return NULL;
    return reason;
}

static const char *run_one(const struct test *t) {
    struct spawn s;
    struct event event = {0};
    u32 before = free_pages(), mine = self()->pages;

    memset(down, 0, sizeof *down);
    if (start_test(t, &s) < 0)
        return "it could not be started";
    bool ended = await_end(s.env.name, (t->seconds ? t->seconds : TEST_SECONDS) * 1000ull, &event);
    const char *wrong = judge(t, ended, &event);
    s64 error = rt_destroy(&s.env);
    if (!wrong && error)
        wrong = error_name(error);
    if (!wrong && (free_pages() != before || self()->pages != mine)) {
        format(reason, sizeof reason, "%d pages are missing, of which the runner has %d",
               (int)(before - free_pages()), (int)(self()->pages - mine));
        wrong = reason;
    }
    s64 contradictions = sys_check(&caps.machine);
    if (!wrong && contradictions) {
        format(reason, sizeof reason, "the checker finds %ld contradictions", contradictions);
        wrong = reason;
    }
    return wrong;
}

static bool report(const struct test *t) {
    print("test: %s begin\n", t->name);
    if (machine_info()->cpus < t->cpus) {
        print("test: %s skip needs %u CPUs\n", t->name, t->cpus);
        return true;
    }
    if (t->needs & NEED_DEVICE && !has_edu()) {
        print("test: %s skip needs QEMU's edu\n", t->name);
        return true;
    }
    const char *wrong = run_one(t);
    if (wrong)
        print("test: %s FAIL %s\n", t->name, wrong);
    else
        print("test: %s ok\n", t->name);
    return !wrong;
}

/* The test that the command line asks for by `only=`; an empty name: all. */
static void read_choice(char *name, size_t size) {
    const char *text = (const char *)machine_info()->command_line;

    name[0] = 0;
    for (; *text; text++)
        if (!strncmp(text, "only=", 5)) {
            for (size_t i = 0; i + 1 < size && text[5 + i] > ' '; i++) {
                name[i] = text[5 + i];
                name[i + 1] = 0;
            }
            return;
        }
}

static void set_up(void) {
    const struct info *info = machine_info();
    struct archive_member member;
    const u8 *archive = memory_map(info->archive, info->archive_pages, 0, 0);

    if (!archive || !archive_find(archive, info->archive_bytes, "init", &member))
        give_up("no program in the archive");
    program = member.data;
    program_bytes = member.size;
    program_cap =
        (struct cap){.type = CAP_PAGE,
                     .rights = RIGHT_READ,
                     .name = info->archive + (u32)((u64)(member.data - archive) / RT_PAGE),
                     .count = (u32)((member.size + RT_PAGE - 1) / RT_PAGE)};
    if (sys_cap_derive(0, &program_cap) ||
        memory_map_at((u64)down, down_page = page_alloc(1), 1, MAP_WRITE, 0))
        give_up("no memory");
    events = bind_events();
}

/* Only to map whatever the runner will need before pages are counted. */
TEST(nothing) {}

int run_tests(void) {
    char chosen[64];
    u32 count = 0;
    bool good = true;

    memcpy(&caps, rt_context(0)->message, sizeof caps);
    print_to(&caps.console);
    set_up();
    run_one(&entry_nothing);
    read_choice(chosen, sizeof chosen);
    for (const struct test *const *t = __start_tests; t < __stop_tests; t++)
        if (!(*t)->role && (!chosen[0] || !strcmp(chosen, (*t)->name))) {
            good &= report(*t);
            count++;
        }
    print("test: end %u\n", count);
    for (;;)
        sys_machine_off(&caps.machine, good ? POWER_OFF : POWER_FAIL);
}
