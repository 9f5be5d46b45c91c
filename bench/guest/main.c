/* The runner of the rows. The first environment only makes the second, with what any program may
 * have: pages, slices, the right to print. That one runs the rows, and starts a third where a
 * row needs two.
 *
 * From the kernel's command line: `rows=A,B` runs the rows A and B, `samples=N` takes so many of
 * each, `loops=N` multiplies the operations of a sample (for bench's --breakdown). `filters=N`
 * binds N filters and waits for packets instead. */
#include "base/archive.h"
#include "bench.h"

#define SHARED 0x61000ull
#define MOST_SAMPLES 64
#define ROWS_PAGES 6000
#define ROLE_PAGES 450   /* of one that helps; the program has 200 */
#define ALONE_PAGES 1500 /* of one that runs a row */
#define ROWS_SLOTS 60 /* of CPU 0; 8 of them are for roles */

struct shared *const shared = (struct shared *)SHARED;
u32 random_state;

/* The kernel leaves capabilities in the first environment's context page. */
static struct { struct cap machine, console, flow; } first_caps;
static bool is_first(void) { return rt_first->message[0] != 0; }

static const struct row *current;
static u64 samples = 15, loops = 1;

void fail(const char *file, int line, const char *what, s64 result) {
    print("BENCH\t%s\tFAIL %s:%d: %s: %s\n", current ? current->name : "-", file, line, what,
          error_name(result));
    if (is_first())
        for (;;)
            sys_machine_off(&first_caps.machine, POWER_FAIL);
    rt_exit(1);
}

/* ---- options */
static const char *option(const char *key) {
    const char *text = (const char *)machine_info()->command_line;
    size_t length = strlen(key);

    for (; *text; text++)
        if (!strncmp(text, key, length) && text[length] == '=')
            return text + length + 1;
    return NULL;
}

static u64 number_option(const char *key, u64 otherwise) {
    const char *value = option(key);

    return value ? (u64)atoi(value) : otherwise;
}

/* Whether the option `rows` asks for it. */
static bool chosen(const char *name) {
    const char *at = option("rows");

    if (!at)
        return true;
    while (*at > ' ') {
        size_t n = 0;
        while (at[n] > ' ' && at[n] != ',')
            n++;
        if (!strncmp(name, at, n) && !name[n])
            return true;
        at += n + (at[n] == ',');
    }
    return false;
}

/* ---- measuring. Ticks are printed in hundredths. */
static void sort(u64 *v, u64 n) {
    for (u64 i = 1; i < n; i++)
        for (u64 k = i; k && v[k - 1] > v[k]; k--) {
            u64 t = v[k];
            v[k] = v[k - 1];
            v[k - 1] = t;
        }
}

u64 median(u64 *v, u64 n) {
    sort(v, n);
    return v[n / 2];
}

static void report(u64 n, u64 *v) {
    sort(v, samples);
    print("BENCH\t%s\tok\t%s\t%lu\t%lu\t%lu\t%lu\t%lu\n", current->name, current->unit, n, samples,
          v[samples / 2], v[0], v[(samples - 1) * 9 / 10]);
}

void measure_parts(u64 n, u64 parts, void (*body)(u64)) {
    static u64 v[MOST_SAMPLES];

    n *= loops;
    body(n / 8 + 1);
    for (u64 i = 0; i < samples; i++) {
        u64 t = rt_tsc();
        body(n);
        v[i] = (rt_tsc() - t) * 100 / (n * parts);
    }
    report(n, v);
}

void report_share(u64 hundredths, u64 n) {
    print("BENCH\t%s\tok\t%s\t%lu\t1\t%lu\t%lu\t%lu\n", current->name, current->unit, n, hundredths,
          hundredths, hundredths);
}

void measure(u64 n, void (*body)(u64)) { measure_parts(n, 1, body); }

void measure_sum(u64 n, void (*body)(u64, u64 *)) {
    static u64 v[MOST_SAMPLES];

    n *= loops;
    u64 sum = 0;
    body(n / 8 + 1, &sum);
    for (u64 i = 0; i < samples; i++) {
        sum = 0;
        body(n, &sum);
        v[i] = sum * 100 / n;
    }
    report(n, v);
}

/* ---- environments */
static void add(struct start *start, const char *name, const struct cap *cap, u64 a) {
    struct start_item *item = &start->item[start->items++];

    memcpy(item->name, name, strlen(name));
    item->cap = *cap;
    item->a = a;
}

/* Whether it is a row, which runs in an environment of its own, and no role. */
static bool is_row(const char *name) {
    for (const struct row *const *r = __start_rows; r < __stop_rows; r++)
        if (!strcmp((*r)->name, name))
            return (*r)->unit;
    return false;
}

static struct cap start_program(const char *what, const struct cap *program, u64 bytes,
                                const struct cap *console, const struct cap *share, u32 cpu, u32 slots) {
    static struct start start;
    struct spawn_slices slices = {cpu, slots};
    const u8 *image = memory_map(program->name, program->count, 0, program);

    CHECK(image);
    memset(&start, 0, sizeof start);
    memcpy(start.arguments, what, strlen(what));
    add(&start, "program", program, bytes);
    add(&start, "console", console, 0);
    if (share)
        add(&start, "share", share, 0);
    struct spawn s = {.name = what,
                      .image = image,
                      .image_bytes = bytes,
                      .page_limit = !share ? ROWS_PAGES : is_row(what) ? ALONE_PAGES : ROLE_PAGES,
                      .slice_limit = share ? slots : ROWS_SLOTS,
                      .start = &start,
                      .slices = &slices,
                      .slice_kinds = 1};
    OK(spawn(&s));
    memory_unmap((void *)image, program->count);
    return s.env;
}

struct cap start_role_on(const char *role, u32 cpu) {
    const struct start_item *program = start_item("program", 0);
    struct cap share = {.type = CAP_PAGE,
                        .rights = RIGHT_READ | RIGHT_WRITE,
                        .count = SHARED_PAGES,
                        .name = memory_page_of(shared)};

    shared->ready = 0;
    shared->env = rt_self();
    OK(sys_cap_derive(0, &share));
    struct cap env = start_program(role, &program->cap, program->a,
                                   &start_item("console", 0)->cap, &share, cpu, 1);
    while (!__atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST))
        sys_yield();
    return env;
}

u32 start_role(const char *role) {
    static struct cap last;

    if (last.type)
        OK(rt_destroy(&last));
    memset(shared, 0, SHARED_PAGES * RT_PAGE);
    last = start_role_on(role, 0);
    return last.name;
}

extern char rt_transfer_stack_top[];
void accept_by(void (*entry)(void)) {
    rt_first->transfer_stack = (u64)rt_transfer_stack_top;
    rt_first->transfer = (u64)entry;
}

bool alone(void) {
    if (start_item("share", 0))
        return true;
    start_role(current->name); /* it is ready when it is done */
    return false;
}

void serve(void) {
    __atomic_store_n(&shared->ready, 1, __ATOMIC_SEQ_CST);
    for (;;)
        sys_sleep(NEVER, 0, 0);
}

static void run_rows(void) {
    s64 page = OK(sys_page_alloc(0, PAGE_ANY, SHARED_PAGES, 0, 0));

    OK(memory_map_at(SHARED, (u32)page, SHARED_PAGES, MAP_WRITE, 0));
    print("META\ttsc_hz\t%lu\n", machine_info()->tsc_hz);
    for (const struct row *const *r = __start_rows; r < __stop_rows; r++)
        if ((*r)->unit && chosen((*r)->name)) {
            current = *r;
            random_state = 12345;
            (*r)->run();
        }
    print("META\tdone\n");
}

static int run_role(const struct cap *share) {
    OK(memory_map_at(SHARED, share->name, SHARED_PAGES, MAP_WRITE, share));
    for (const struct row *const *r = __start_rows; r < __stop_rows; r++)
        if (!strcmp((*r)->name, start_arguments())) {
            current = *r;
            (*r)->run();
        }
    return 1;
}

static int run_first(void) {
    const struct info *info = machine_info();
    struct archive_member member;
    u32 page = 0;

    memcpy(&first_caps, rt_first->message, sizeof first_caps);
    print_to(&first_caps.console);
    const u8 *archive = memory_map(info->archive, info->archive_pages, 0, 0);
    struct event_ring *events = memory_alloc_run(1, &page);
    CHECK(archive && events && archive_find(archive, info->archive_bytes, "init", &member));
    struct cap program = {.type = CAP_PAGE,
                          .rights = RIGHT_READ,
                          .count = (u32)((member.size + RT_PAGE - 1) / RT_PAGE),
                          .name = info->archive + (u32)((u64)(member.data - archive) / RT_PAGE)};
    struct cap console = first_caps.console;
    console.rights = RIGHT_WRITE;
    OK(sys_cap_derive(0, &program));
    OK(sys_cap_derive(&first_caps.console, &console));
    OK(sys_event_bind(0, page));
    if (option("filters"))
        bind_filters(&first_caps.flow, (u32)number_option("filters", 0));
    start_program("rows", &program, member.size, &console, NULL, 0, ROWS_SLOTS - 8);
    while (!__atomic_load_n(&events->produced, __ATOMIC_ACQUIRE))
        sys_sleep(NEVER, &events->produced, 0);
    for (;;)
        sys_machine_off(&first_caps.machine,
                        events->event[0].a == END_STOPPED && !events->event[0].b ? POWER_OFF
                                                                                 : POWER_FAIL);
}

int main(void) {
    if (is_first())
        return run_first();
    const struct start_item *share = start_item("share", 0);
    samples = number_option("samples", samples);
    loops = number_option("loops", loops);
    CHECK(samples && samples <= MOST_SAMPLES && loops);
    if (share)
        return run_role(&share->cap);
    run_rows();
    return 0;
}
