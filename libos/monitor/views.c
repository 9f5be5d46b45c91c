/* Everything that is read here may change at any moment: lists are followed for a bounded number
 * of steps, names are made printable, numbers are read once. A pointer to an environment or a
 * flow is used before the next one is asked for, and all are let go of at the end (machine.h). */
#include "monitor/views.h"

#include "base/print.h"
#include "machine/machine.h"
#include "targe/names.h"

#define LIST_MOST 256 /* environments or flows shown */
#define OWNERS 48     /* owners counted apart in the summary of pages */
#define RECORDS 20    /* trace records shown */
#define CPU_LETTERS 6 /* contexts shown for each environment */
#define TYPES (PAGE_ABSENT + 1)

#define NAME_CASE(number, name) \
    case number: \
        return name;
#define NAMES_OF(function, LIST) \
    static const char *function(u64 number) { \
        switch (number) { \
            LIST(NAME_CASE) \
        default: \
            return "?"; \
        } \
    }
NAMES_OF(type_name, PAGE_TYPE_NAMES)
NAMES_OF(record_name, TRACE_EVENT_NAMES)

bool parse_number(const char *text, u64 *number) {
    u64 base = text[0] == '0' && text[1] == 'x' ? 16 : 10, n = 0;

    if (base == 16)
        text += 2;
    if (!*text)
        return false;
    for (; *text; text++) {
        u64 digit = *text >= '0' && *text <= '9'   ? (u64)(*text - '0')
                    : *text >= 'a' && *text <= 'f' ? (u64)(*text - 'a') + 10
                                                   : 99;
        if (digit >= base || n > (~0ull - digit) / base)
            return false;
        n = n * base + digit;
    }
    *number = n;
    return true;
}

const char *env_name(u32 page, char room[16]) {
    const struct env *env = page ? machine_env(page) : NULL;
    u32 i = 0;

    if (!env) {
        format(room, 16, page ? "%u" : "kernel", page);
        return room;
    }
    for (; i < 15 && env->name[i]; i++)
        room[i] = env->name[i] > ' ' && env->name[i] <= '~' ? (char)env->name[i] : '?';
    room[i] = 0;
    return room;
}

u32 env_find(const char *name) {
    const struct env *env;
    u32 page = machine_info()->first_env;

    for (u32 i = 0; page && i < LIST_MOST && (env = machine_env(page)); i++) {
        if (env->state == ENV_LIVE && !strncmp((const char *)env->name, name, sizeof env->name))
            return page;
        page = env->next;
    }
    return 0;
}

static u64 ms(u64 ticks) {
    u64 per_ms = machine_info()->tsc_hz / 1000;

    return per_ms ? (ticks + per_ms / 2) / per_ms : 0;
}

static u32 cpus(void) { return machine_info()->cpus < MAX_CPUS ? machine_info()->cpus : MAX_CPUS; }

/* ---------------------------------------------------------------- pages */

struct tally {
    u32 owner;
    u32 type[TYPES];
    u32 all;
};
static struct tally tallies[OWNERS];
static u32 owners;

static struct tally *tally_of(u32 owner) {
    static u32 last; /* neighbours mostly have one owner */

    if (last < owners && tallies[last].owner == owner)
        return &tallies[last];
    for (last = 0; last < owners; last++)
        if (tallies[last].owner == owner)
            return &tallies[last];
    if (owners == OWNERS)
        return &tallies[last = OWNERS - 1];
    tallies[owners] = (struct tally){.owner = owner};
    return &tallies[last = owners++];
}

static void count_pages(void) {
    const volatile struct page *page = machine_pages();

    owners = 0;
    tally_of(0);
    for (u32 i = 0; i < machine_info()->pages; i++) {
        u32 type = (u8)page[i].state;
        struct tally *t = tally_of(page[i].owner);
        t->type[type < TYPES ? type : PAGE_ABSENT]++;
        t->all++;
    }
}

static void write_page(struct sheet *s, u64 number) {
    char name[16];

    if (number >= machine_info()->pages) {
        say(s, "there is no page %lu: they go up to %u\n", number, machine_info()->pages - 1);
        s->nothing = true;
        return;
    }
    struct page p = machine_pages()[number];
    say(s, "page %lu (address %lx): %s\n", number, (u64)(number * RT_PAGE), type_name((u8)p.state));
    if (p.owner)
        say(s, "  owner       %s (%u)\n", env_name(p.owner, name), p.owner);
    say(s, "  generation  %lu\n", p.generation);
    say(s, "  bindings    %u\n", (u32)(p.state >> 32));
    say(s, "  pins        %u\n", (u32)(p.state >> 16 & 0xffff));
    if (p.where)
        say(s, "  bound in    table %u\n", p.where);
}

static void view_pages(struct sheet *s, const char *argument) {
    const struct info *info = machine_info();
    char name[16];
    u64 number;

    if (*argument && strcmp(argument, "summary") != 0) {
        if (parse_number(argument, &number)) {
            write_page(s, number);
        } else {
            say(s, "pages takes a page number or 'summary', not '%s'\n", argument);
            s->nothing = true;
        }
        return;
    }
    count_pages();
    say(s, "%u pages of 4 KiB: %u free, %u the kernel's, %u the boot archive's\n",
        (u32)info->ram_pages, machine_free_pages(), info->kernel_pages, info->archive_pages);
    say(s, "owner              data  tables  contexts  rings  flows  env      all\n");
    for (u32 i = 0; i < owners; i++) {
        const struct tally *t = &tallies[i];
        if (t->owner)
            say(s, "%-15s %7u %7u  %8u  %5u  %5u  %3u  %7u\n", env_name(t->owner, name),
                t->type[PAGE_DATA], t->type[PAGE_TABLE], t->type[PAGE_CONTEXT], t->type[PAGE_RING],
                t->type[PAGE_FLOW], t->type[PAGE_ENV], t->all);
    }
    const u32 *nobody = tallies[0].type;
    say(s,
        "nobody's: %u free, %u absent\nthe kernel's: %u private, %u exposed, %u flow, %u of "
        "devices\n",
        nobody[PAGE_FREE], nobody[PAGE_ABSENT], nobody[PAGE_KERNEL], nobody[PAGE_EXPOSED],
        nobody[PAGE_FLOW], nobody[PAGE_DEVICE]);
}

/* ---------------------------------------------------------------- environments */

static void view_envs(struct sheet *s, const char *argument) {
    static const char *const state[] = {"?", "live", "stopped", "dying"};
    static const char letter[] = "-rsc"; /* a context_state each */
    const struct env *env;
    char name[16], contexts[CPU_LETTERS + 1];
    u32 page = machine_info()->first_env, shown = cpus() < CPU_LETTERS ? cpus() : CPU_LETTERS;

    (void)argument;
    say(s, "   page name            state    pages/limit slices flows  run ms cpus\n");
    for (u32 i = 0; page && i < LIST_MOST && (env = machine_env(page)); i++) {
        for (u32 n = 0; n < shown; n++)
            contexts[n] = letter[env->context[n].state & 3];
        contexts[shown] = 0;
        u32 next = env->next;
        say(s, "%7u %-15s %-7s %6u/%-6u %4u  %3u %9lu %s\n", page, env_name(page, name),
            state[env->state & 3], env->pages, env->page_limit, env->slices, env->flows,
            ms(env->runtime), contexts);
        page = next;
    }
    say(s, "cpus: its context on each: r ready, s sleeping, c calling, - none\n");
}

/* ---------------------------------------------------------------- slices */

/* One letter for each owner: the first of its name, or another if that is taken. */
static char owner_letter(u32 owner, u32 *known, char *letters, u32 *count) {
    char name[16];

    for (u32 i = 0; i < *count; i++)
        if (known[i] == owner)
            return letters[i];
    if (*count == SLOTS)
        return '?';
    char c = env_name(owner, name)[0];
    for (u32 i = 0; i < *count; i++)
        if (letters[i] == c) { /* taken: begin again with the next choice */
            c = c >= 'a' && c <= 'z'  ? (char)(c - 'a' + 'A')
                : c >= 'A' && c < 'Z' ? (char)(c + 1)
                                      : 'A';
            i = ~0u;
        }
    known[*count] = owner;
    letters[(*count)++] = c;
    return c;
}

static void slices_summary(struct sheet *s) {
    u32 known[SLOTS], count = 0;
    char letters[SLOTS], name[16];

    for (u32 cpu = 0; cpu < cpus(); cpu++) {
        const struct slices *v = machine_slices(cpu);
        if (!v)
            return;
        u64 up = ms(rt_tsc() - machine_info()->boot_tsc), since = v->idle_since,
            idle = ms(v->idle + (since ? rt_tsc() - since : 0));
        u32 running = v->running;
        say(s, "CPU %u: slices of %lu us, idle %lu of %lu ms, %lu switches, running %s\n  ", cpu,
            ms(v->length * 1000), idle, up, v->switches,
            running ? env_name(running, name) : "nothing");
        for (u32 i = 0; i < SLOTS; i++) {
            u32 owner = v->slot[i].owner;
            say(s, "%c", owner ? owner_letter(owner, known, letters, &count) : '.');
        }
        say(s, "\n");
    }
    for (u32 i = 0; i < count; i++)
        say(s, "%s%c %s", i ? ", " : "", letters[i], env_name(known[i], name));
    say(s, "%s. free\n", count ? ", " : "");
}

static void slices_of(struct sheet *s, u32 cpu) {
    const struct slices *v = machine_slices(cpu);
    char name[16];

    if (!v)
        return;
    say(s, "  slots  owner            used ms        runs\n");
    for (u32 i = 0, end; i < SLOTS; i = end) {
        u32 owner = v->slot[i].owner;
        u64 used = 0, runs = 0;
        for (end = i; end < SLOTS && v->slot[end].owner == owner; end++) {
            used += v->slot[end].used;
            runs += v->slot[end].runs;
        }
        say(s, "%2u to %2u %-15s %9lu %11lu\n", i, end - 1,
            owner ? env_name(owner, name) : "(free)", ms(used), runs);
    }
    say(s, "Neighbouring slots of one owner are one long slice, counted in its last slot.\n");
}

/* Chooses a CPU; says so if the argument is no good. */
static bool parse_cpu(struct sheet *s, const char *argument, u32 *cpu) {
    u64 number;

    if (parse_number(argument, &number) && number < cpus()) {
        *cpu = (u32)number;
        return true;
    }
    say(s, "there is no CPU '%s': they go up to %u\n", argument, cpus() - 1);
    s->nothing = true;
    return false;
}

static void view_slices(struct sheet *s, const char *argument) {
    u32 cpu;

    if (!*argument)
        slices_summary(s);
    else if (parse_cpu(s, argument, &cpu))
        slices_of(s, cpu);
}

/* ---------------------------------------------------------------- flows */

static bool fixed(const u8 *mask, const u8 *value, u32 width, u32 *number) {
    *number = 0;
    for (u32 i = 0; i < width; i++) {
        if (mask[i] != 0xff)
            return false;
        *number = *number << 8 | value[i];
    }
    return true;
}

/* In words, for the conditions that are common. */
static const char *takes(const struct masked *m, char room[16]) {
    u32 type, protocol, port;

    if (!fixed(m->mask + 12, m->value + 12, 2, &type))
        return "all";
    if (type != 0x800)
        return type == 0x806 ? "arp" : "other";
    if (!fixed(m->mask + 23, m->value + 23, 1, &protocol))
        return "ip";
    const char *name = protocol == 1    ? "icmp"
                       : protocol == 6  ? "tcp"
                       : protocol == 17 ? "udp"
                                        : "ip";
    if (m->shift_scale && fixed(m->mask2 + 2, m->value2 + 2, 2, &port))
        format(room, 16, "%s %u", name, port);
    else if (m->range_part == 2)
        format(room, 16, "%s %u-%u", name, m->low, m->high);
    else
        format(room, 16, "%s", name);
    return room;
}

static void view_flows(struct sheet *s, const char *argument) {
    const struct flow *flow;
    char words[16], ring_owner[16];
    u32 page = machine_info()->first_flow;

    (void)argument;
    say(s, "  page takes           bound by              in   bytes in   lost      out  bytes out\n");
    for (u32 i = 0; page && i < LIST_MOST && (flow = machine_flow(page)); i++) {
        u32 ring = flow->ring,
            owner = ring < machine_info()->pages ? machine_pages()[ring].owner : 0;
        const char *by = flow->bound ? env_name(owner, ring_owner) : "(nobody)";
        flow = machine_flow(page); /* naming the owner may have let go of it */
        if (!flow)
            return;
        u32 next = flow->next;
        say(s, "%6u %-15s %-15s %8lu %10lu %6lu %8lu %10lu\n", page, takes(&flow->receive, words),
            by, flow->filled, flow->received, flow->dropped_full, flow->sent, flow->sent_bytes);
        if (flow->refused)
            say(s, "        %lu frames refused as forged\n", flow->refused);
        if (flow->dropped_bad)
            say(s, "        %lu frames dropped: its ring is nonsense\n", flow->dropped_bad);
        page = next;
    }
}

/* ---------------------------------------------------------------- trace */

static const struct {
    u32 kind;
    const char *name;
} kinds[] = {
#define KIND_ENTRY(n, name) {n, name},
    TRACE_EVENT_NAMES(KIND_ENTRY)};

u64 find_kind(const char *name) {
    for (u32 i = 0; i < ARRAY_SIZE(kinds); i++)
        if (strcmp(kinds[i].name + strlen("trace_"), name) == 0)
            return 1ull << kinds[i].kind;
    return 0;
}

void say_kinds(struct sheet *s, u64 mask) {
    bool any = false;

    for (u32 i = 0; i < ARRAY_SIZE(kinds); i++)
        if (mask >> kinds[i].kind & 1) {
            say(s, " %s", kinds[i].name + strlen("trace_"));
            any = true;
        }
    if (!any)
        say(s, " nothing");
}

static void trace_counters(struct sheet *s) {
    static const struct {
        u32 number;
        const char *name;
    } calls[] = {
#define CALL_ENTRY(n, name) {n, name},
        CALL_NAMES(CALL_ENTRY)};
    u32 column = 0;

    say(s, "cpu exceptions interrupts   timer  packets unclaimed transfers overruns records\n");
    for (u32 cpu = 0; cpu < cpus(); cpu++) {
        const struct trace *t = machine_trace(cpu);
        if (t)
            say(s, "%3u %10lu %10lu %7lu %8lu %9lu %9lu %8lu %7lu\n", cpu, t->exceptions,
                t->interrupts, t->timer, t->packets, t->unclaimed, t->transfers, t->overruns,
                t->count);
    }
    for (u32 cpu = 0; cpu < cpus(); cpu++) {
        const struct trace *t = machine_trace(cpu);
        if (t && (t->nonsense || t->put_off))
            say(s, "cpu %u: receiving was put off %lu times, the network device wrote nonsense %lu times\n", cpu,
                t->put_off, t->nonsense);
    }
    say(s, "calls:");
    for (u32 i = 0; i < ARRAY_SIZE(calls); i++) {
        u64 sum = 0;
        for (u32 cpu = 0; cpu < cpus(); cpu++)
            sum += machine_trace(cpu) ? machine_trace(cpu)->call[calls[i].number] : 0;
        if (sum)
            say(s, "%s%-13s %10lu", column++ % 3 ? "  " : "\n  ", calls[i].name, sum);
    }
    if (machine_trace(0)) {
        say(s, "\nrecorded:");
        say_kinds(s, machine_trace(0)->mask);
        say(s, "\n");
    }
}

static void trace_record(struct sheet *s, const struct trace_record *r) {
    char name[16];
    u64 per_us = machine_info()->tsc_hz / 1000000;
    u64 us = (r->tsc - machine_info()->boot_tsc) / (per_us ? per_us : 1);

    say(s, "%10lu.%06lu %-10s %-15s ", us / 1000000, us % 1000000,
        record_name(r->kind) + strlen("trace_"), r->env ? env_name(r->env, name) : "-");
    say(s, "%lx %lx\n", r->a, r->b);
}

static void view_trace(struct sheet *s, const char *argument) {
    u32 cpu;

    if (!*argument) {
        trace_counters(s);
        return;
    }
    if (!parse_cpu(s, argument, &cpu) || !machine_trace(cpu))
        return;
    const struct trace *t = machine_trace(cpu);
    u64 count = __atomic_load_n(&t->count, __ATOMIC_ACQUIRE),
        first = count > RECORDS ? count - RECORDS : 0;
    say(s, "%lu records, the last %lu:\n          seconds kind       environment     a, b (hexadecimal)\n",
        count, count - first);
    for (; first < count; first++) {
        struct trace_record record = t->record[first % TRACE_RECORDS];
        trace_record(s, &record);
    }
}

/* ---------------------------------------------------------------- all */

static const struct {
    const char *name;
    void (*write)(struct sheet *s, const char *argument);
    struct use use[3];
} views[] = {
    {"pages", view_pages, {{"", "memory by owner and type"},
                           {"PAGE", "one page: type, owner, generation, bindings, pins"}}},
    {"envs", view_envs, {{"", "environments: pages, slices, flows, time run, state on CPUs"}}},
    {"slices", view_slices, {{"", "the slice vector of each CPU"},
                             {"CPU", "who owns which slots of it, with the time used"}}},
    {"flows", view_flows, {{"", "flows: what they take, who has bound them, counters"}}},
    {"trace", view_trace, {{"", "counters of each CPU, and of calls"},
                           {"CPU", "the last 20 trace records of a CPU"}}},
};

bool view_write(struct sheet *s, const char *name, const char *argument) {
    for (u32 i = 0; i < ARRAY_SIZE(views); i++)
        if (!strcmp(views[i].name, name)) {
            s->nothing = *argument && !views[i].use[1].what;
            if (s->nothing)
                say(s, "%s takes nothing after it\n", name);
            else
                views[i].write(s, argument);
            machine_forget();
            return true;
        }
    return false;
}

void say_uses(struct sheet *s, const char *name, const struct use *use) {
    char words[24];

    for (; use->what; use++) {
        format(words, sizeof words, "%s %s", name, use->rest);
        say(s, "  %-14s %s\n", words, use->what);
    }
}

bool view_help(struct sheet *s, const char *name) {
    bool found = false;

    for (u32 i = 0; i < ARRAY_SIZE(views); i++)
        if (!name || !strcmp(views[i].name, name)) {
            say_uses(s, views[i].name, views[i].use);
            found = true;
        }
    return found;
}
