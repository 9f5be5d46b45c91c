/* The machine's state as JSON, see machine_json.h.
 *
 * All that is read here may change at any moment: the kernel and other CPUs write it. So lists
 * are followed for a bounded number of steps, names are escaped, numbers are copied before they
 * are used, and nothing is assumed to agree with anything else. */
#include "web/machine_json.h"
#include "machine/machine.h"
#include "targe/names.h"
#include "web/http.h"
#include "web/text.h"
#include <string.h>

#define LIST_MOST 256 /* environments or flows shown */

/* ---- the map of memory */

struct run {
    u32 start, count;
    u32 owner;
    u32 type;
};

struct map {
    struct run run[MAP_RUNS];
    u32 runs;
    u32 grain; /* runs shorter than this may have been merged with their neighbours */
};

static struct map maps[2];
static u32 shown; /* which of the two is complete */
static u32 next_page; /* of the walk; 0: none is under way */
static u64 begun_ms;

static bool alike(const struct run *a, const struct run *b) {
    return a->owner == b->owner && a->type == b->type;
}

/* Appends a run to those already kept, or lengthens the last one. */
static void keep_run(struct map *map, u32 *kept, struct run r) {
    if (*kept && alike(&map->run[*kept - 1], &r))
        map->run[*kept - 1].count += r.count;
    else
        map->run[(*kept)++] = r;
}

/* Makes one run of neighbours that are shorter than the grain, until they are not; it shows the
 * longest of them. */
static void merge_short(struct map *map) {
    u32 kept = 0;

    for (u32 i = 0; i < map->runs;) {
        struct run group = map->run[i];
        u32 longest = group.count;
        for (i++; i < map->runs && group.count < map->grain; i++) {
            const struct run *r = &map->run[i];
            if (r->count >= map->grain)
                break;
            if (r->count > longest) {
                longest = r->count;
                group.owner = r->owner;
                group.type = r->type;
            }
            group.count += r->count;
        }
        keep_run(map, &kept, group);
    }
    map->runs = kept;
}

/* Makes at least half of the room free, with the finest grain that does. There are at most two runs
 * for each grain of pages, so the grain stays far below the number of pages. */
static void coarsen(struct map *map) {
    for (merge_short(map); map->runs > MAP_RUNS / 2; merge_short(map))
        map->grain *= 2;
}

static void add_page(struct map *map, u32 number, u32 type, u32 owner) {
    struct run *last = map->runs ? &map->run[map->runs - 1] : NULL;

    if (last && last->type == type && last->owner == owner) {
        last->count++;
        return;
    }
    if (map->runs == MAP_RUNS)
        coarsen(map);
    map->run[map->runs++] = (struct run){number, 1, owner, type};
}

static void walk(u32 most) {
    const struct page *array = machine_pages();
    struct map *map = &maps[!shown];
    u32 pages = machine_info()->pages;
    u32 stop = pages - next_page > most ? next_page + most : pages;

    for (; next_page < stop; next_page++) {
        const volatile struct page *p = &array[next_page];
        add_page(map, next_page, (u32)p->state & 0xff, p->owner);
    }
    if (next_page == pages) {
        shown = !shown;
        next_page = 0;
    }
}

static void begin_walk(u64 now_ms, u32 most) {
    struct map *map = &maps[!shown];

    map->runs = 0;
    map->grain = 1;
    begun_ms = now_ms;
    next_page = 0;
    walk(most);
}

void machine_json_init(void) {
    begin_walk(0, ~0u);
}

bool machine_json_work(void) {
    if (next_page)
        walk(MAP_SLICE);
    return next_page != 0;
}

/* ---- writing. A comma goes before every value but the first of its array or object. */

static struct text out;

static void comma(void) {
    char last = out.used ? out.at[out.used - 1] : '{';

    if (last != '{' && last != '[' && last != ':')
        text_put(&out, ",");
}

static void open_as(char bracket) {
    comma();
    text_bytes(&out, &bracket, 1);
}

static void close_as(char bracket) {
    text_bytes(&out, &bracket, 1);
}

static void key(const char *name) {
    comma();
    text_put(&out, "\"");
    text_put(&out, name);
    text_put(&out, "\":");
}

static void value(u64 number) {
    comma();
    text_number(&out, number);
}

static void field(const char *name, u64 number) {
    key(name);
    value(number);
}

static void string(const void *bytes, u32 length) {
    const u8 *at = bytes;

    comma();
    text_put(&out, "\"");
    for (u32 i = 0; i < length && at[i]; i++) {
        u8 c = at[i] < ' ' || at[i] > '~' || at[i] == '"' || at[i] == '\\' ? '?' : at[i];
        text_bytes(&out, &c, 1);
    }
    text_put(&out, "\"");
}

static u64 ms(u64 ticks) {
    u64 per_ms = machine_info()->tsc_hz / 1000;

    return per_ms ? ticks / per_ms : 0;
}

static void write_memory(const struct info *info) {
    const struct map *map = &maps[shown];

    key("memory");
    open_as('{');
    field("pages", info->ram_pages);
    field("free", machine_free_pages());
    field("kernel", info->kernel_pages);
    field("archive", info->archive_pages);
    field("span", info->pages);
    field("grain", map->grain);
    key("map");
    open_as('[');
    for (u32 i = 0; i < map->runs; i++) {
        const struct run *r = &map->run[i];
        open_as('[');
        value(r->start);
        value(r->count);
        value(r->type);
        value(r->owner);
        close_as(']');
    }
    close_as(']');
    close_as('}');
}

static void write_contexts(const struct env *env, u32 cpus) {
    key("contexts");
    open_as('[');
    for (u32 cpu = 0; cpu < cpus; cpu++) {
        u32 state = env->context[cpu].state;
        if (state == CONTEXT_NONE)
            continue;
        open_as('{');
        field("cpu", cpu);
        field("state", state);
        field("peer", env->context[cpu].peer);
        field("caller", env->context[cpu].caller);
        field("excess_ms", ms(env->context[cpu].excess));
        close_as('}');
    }
    close_as(']');
}

static void write_env(const struct env *env, u32 number, u32 cpus) {
    open_as('{');
    key("name");
    string(env->name, sizeof env->name);
    field("page", number);
    field("creator", env->creator);
    field("state", env->state);
    field("pages", env->pages);
    field("page_limit", env->page_limit);
    field("slices", env->slices);
    field("slice_limit", env->slice_limit);
    field("flows", env->flows);
    field("runtime_ms", ms(env->runtime));
    field("exceptions", env->exceptions);
    write_contexts(env, cpus);
    close_as('}');
}

static void write_envs(const struct info *info, u32 cpus) {
    const struct env *env;
    u32 number = info->first_env;

    key("envs");
    open_as('[');
    for (u32 i = 0; number && i < LIST_MOST && (env = machine_env(number)); i++) {
        u32 next = env->next;
        write_env(env, number, cpus);
        number = next;
    }
    close_as(']');
}

static void write_slots(const struct slices *s) {
    key("slots");
    open_as('[');
    for (u32 i = 0; i < SLOTS; i++)
        value(s->slot[i].owner);
    close_as(']');
    key("used");
    open_as('[');
    for (u32 i = 0; i < SLOTS; i++)
        value(ms(s->slot[i].used));
    close_as(']');
}

static void write_cpus(u32 cpus) {
    const struct slices *s;

    key("cpus");
    open_as('[');
    for (u32 cpu = 0; cpu < cpus; cpu++) {
        if (!(s = machine_slices(cpu)))
            continue;
        open_as('{');
        field("cpu", cpu);
        field("current", s->current);
        field("running", s->running);
        u64 since = s->idle_since;
        field("idle_ms", ms(s->idle + (since ? __builtin_ia32_rdtsc() - since : 0)));
        field("switches", s->switches);
        field("slice_us", ms(s->length * 1000));
        write_slots(s);
        close_as('}');
    }
    close_as(']');
}

/* ---- what a flow takes, in words, for the conditions that are common */

static bool fixed(const u8 *mask, const u8 *is, u32 width, u32 *number) {
    *number = 0;
    for (u32 i = 0; i < width; i++) {
        if (mask[i] != 0xff)
            return false;
        *number = *number << 8 | is[i];
    }
    return true;
}

static void describe(const struct masked *m, struct text *t) {
    static const struct {
        u32 number;
        const char *name;
    } protocols[] = {{1, "icmp"}, {6, "tcp"}, {17, "udp"}};
    const u8 *mask = m->shift_scale ? m->mask2 : m->mask + 34;
    const u8 *is = m->shift_scale ? m->value2 : m->value + 34;
    const char *name = "ip";
    u32 number;

    if (!fixed(m->mask + 12, m->value + 12, 2, &number)) {
        text_put(t, "frames");
        return;
    }
    if (number != 0x800) {
        text_put(t, number == 0x806 ? "arp" : "other");
        return;
    }
    if (fixed(m->mask + 23, m->value + 23, 1, &number))
        for (u32 i = 0; i < sizeof protocols / sizeof protocols[0]; i++)
            if (protocols[i].number == number)
                name = protocols[i].name;
    text_put(t, name);
    if (fixed(mask + 2, is + 2, 2, &number)) {
        text_put(t, " ");
        text_number(t, number);
    } else if (m->range_part) {
        text_put(t, " ");
        text_number(t, m->low);
        text_put(t, "-");
        text_number(t, m->high);
    }
}

/* The environment whose ring gets the flow's frames. */
static u32 bound_by(const struct flow *flow) {
    u32 ring = flow->ring;

    return flow->bound && ring < machine_info()->pages ? machine_pages()[ring].owner : 0;
}

static void write_flow(const struct flow *flow, u32 number) {
    char words[32];
    struct text t = {words, sizeof words, 0, false};
    struct masked receive;

    memcpy(&receive, &flow->receive, sizeof receive);
    describe(&receive, &t);
    open_as('{');
    field("page", number);
    field("owner", flow->owner);
    field("parent", flow->parent);
    key("takes");
    string(words, t.used);
    field("bound", flow->bound);
    field("bound_by", bound_by(flow));
    field("filled", flow->filled);
    field("received", flow->received);
    field("dropped", flow->dropped_full);
    field("dropped_bad", flow->dropped_bad);
    field("sent", flow->sent);
    field("sent_bytes", flow->sent_bytes);
    field("refused", flow->refused);
    field("handled", flow->handled);
    close_as('}');
}

static void write_flows(const struct info *info) {
    const struct flow *flow;
    u32 number = info->first_flow;

    key("flows");
    open_as('[');
    for (u32 i = 0; number && i < LIST_MOST && (flow = machine_flow(number)); i++) {
        u32 next = flow->next;
        write_flow(flow, number);
        number = next;
    }
    close_as(']');
}

static void write_calls(const struct trace *trace) {
    static const struct {
        u32 number;
        const char *name;
    } calls[] = {
#define CALL_ENTRY(n, name) {n, name},
        CALL_NAMES(CALL_ENTRY)
#undef CALL_ENTRY
    };

    key("calls");
    open_as('{');
    for (u32 i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        u64 count = trace->call[calls[i].number];
        if (count)
            field(calls[i].name, count);
    }
    close_as('}');
}

static void write_trace(u32 cpus) {
    const struct trace *trace;

    key("trace");
    open_as('[');
    for (u32 cpu = 0; cpu < cpus; cpu++) {
        if (!(trace = machine_trace(cpu)))
            continue;
        open_as('{');
        field("cpu", cpu);
        field("exceptions", trace->exceptions);
        field("interrupts", trace->interrupts);
        field("timer", trace->timer);
        field("shootdowns", trace->shootdowns);
        field("transfers", trace->transfers);
        field("cap_hits", trace->cap_hits);
        field("cap_misses", trace->cap_misses);
        field("packets", trace->packets);
        field("unclaimed", trace->unclaimed);
        field("overruns", trace->overruns);
        field("nonsense", trace->nonsense);
        field("put_off", trace->put_off);
        field("records", trace->count);
        write_calls(trace);
        close_as('}');
    }
    close_as(']');
}

/* The server's own counters. */
static void write_server(void) {
    key("server");
    open_as('{');
    field("open", http_counters.open);
    field("connections", http_counters.connections);
    field("requests", http_counters.requests);
    field("bytes", http_counters.bytes);
    field("errors", http_counters.errors);
    field("timeouts", http_counters.timeouts);
    field("evicted", http_counters.evicted);
    close_as('}');
}

u32 machine_json_write(char *to, u32 room, u64 now_ms) {
    const struct info *info = machine_info();
    u32 cpus = info->cpus < MAX_CPUS ? info->cpus : MAX_CPUS;

    if (!next_page && now_ms - begun_ms >= MAP_FRESH_MS)
        begin_walk(now_ms, MAP_SLICE);
    out = (struct text){to, room, 0, false};
    open_as('{');
    field("version", info->version);
    field("uptime_ms", ms(__builtin_ia32_rdtsc() - info->boot_tsc));
    field("tsc_hz", info->tsc_hz);
    write_memory(info);
    write_envs(info, cpus);
    write_cpus(cpus);
    write_flows(info);
    write_trace(cpus);
    write_server();
    text_put(&out, "}\n");
    machine_forget();
    return out.full ? 0 : out.used;
}
