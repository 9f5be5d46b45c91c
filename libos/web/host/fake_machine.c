/* A made-up machine for the host build: what libos/lib/machine gives on Targe, with numbers that
 * move, so that the page and its JSON can be worked on without a kernel. */
#include "machine/machine.h"
#include "web/host/fake_machine.h"
#include <string.h>
#include <time.h>

#define PAGES 65536 /* 256 MB */
#define CPUS 2

static struct info info;
static struct page pages[PAGES];
static struct env envs[4];
static struct flow flows[4];
static struct slices slices[CPUS];
static struct trace traces[CPUS];
static u32 random_state = 1;

static u32 draw(u32 below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (u32)((u64)random_state * below >> 32);
}

static void own(u32 first, u32 count, u32 type, u32 owner) {
    for (u32 i = first; i < first + count && i < PAGES; i++) {
        pages[i].state = type;
        pages[i].owner = owner;
    }
}

static void make_env(u32 i, const char *name, u32 page, u32 owned, u32 slots) {
    struct env *e = &envs[i];

    strncpy((char *)e->name, name, sizeof e->name - 1);
    e->self = page;
    e->creator = i ? envs[0].self : 0;
    e->state = ENV_LIVE;
    e->pages = owned;
    e->page_limit = owned + 1024;
    e->slices = slots;
    e->slice_limit = 64;
    e->next = i < 3 ? page + 1 : 0;
    e->context[0].page = page + 16;
    e->context[0].state = i == 1 ? CONTEXT_READY : CONTEXT_SLEEPING;
    own(page, 1, PAGE_ENV, page);
    own(page + 16, 1, PAGE_CONTEXT, page);
    own(0x1000 + i * 0x2400, owned, PAGE_DATA, page);
    own(0x1000 + i * 0x2400, 12, PAGE_TABLE, page);
    for (u32 s = i * 16; s < i * 16 + slots; s++)
        slices[i & 1].slot[s].owner = page;
}

/* A flow for TCP or UDP to a port, or (port 0) of another Ethernet type. */
static void make_flow(u32 i, u32 owner, u16 type, u8 protocol, u16 number) {
    struct flow *f = &flows[i];

    f->owner = owner;
    f->self = 0x380 + i;
    f->next = i < 3 ? f->self + 1 : 0;
    f->bound = 1;
    f->ring = owner;
    memset(f->receive.mask + 12, 0xff, 2);
    f->receive.value[12] = (u8)(type >> 8);
    f->receive.value[13] = (u8)type;
    if (protocol) {
        f->receive.mask[23] = 0xff;
        f->receive.value[23] = protocol;
    }
    if (number) {
        f->receive.shift_scale = 4;
        memset(f->receive.mask2 + 2, 0xff, 2);
        f->receive.value2[2] = (u8)(number >> 8);
        f->receive.value2[3] = (u8)number;
    }
    own(f->self, 1, PAGE_FLOW, owner);
}

static u64 measure_tsc(void) {
    struct timespec t = {0, 20000000};
    u64 start = __builtin_ia32_rdtsc();

    nanosleep(&t, NULL);
    return (__builtin_ia32_rdtsc() - start) * 50;
}

void fake_machine_start(u32 archive_pages) {
    info = (struct info){.magic = INFO_MAGIC, .version = ABI_VERSION, .cpus = CPUS, .pages = PAGES,
                         .tsc_hz = measure_tsc(), .boot_tsc = __builtin_ia32_rdtsc(),
                         .first_env = 0x400, .first_flow = 0x380, .ram_pages = PAGES - 96,
                         .kernel_pages = 700, .archive_pages = archive_pages};
    own(0, 1, PAGE_KERNEL, 0);
    own(0xa0, 96, PAGE_ABSENT, 0);
    own(0x100, 0x280, PAGE_KERNEL, 0);
    own(0x500, 0x400, PAGE_EXPOSED, 0);
    make_env(0, "init", 0x400, 900, 4);
    make_env(1, "web", 0x401, 8800, 14);
    make_env(2, "monitor", 0x402, 300, 6);
    make_env(3, "mini", 0x403, 64, 4);
    own(0xa000, archive_pages, PAGE_DATA, 0x400);
    make_flow(0, 0x401, 0x800, 6, 80);
    make_flow(1, 0x402, 0x800, 6, 81);
    make_flow(2, 0x403, 0x806, 0, 0);
    make_flow(3, 0x403, 0x800, 1, 0);
    for (u32 cpu = 0; cpu < CPUS; cpu++) {
        slices[cpu].cpu = cpu;
        slices[cpu].length = info.tsc_hz / 1000;
    }
}

/* Something happens in the made-up machine. */
static void move(void) {
    u64 ms = info.tsc_hz / 1000;

    for (u32 i = 0; i < 24; i++) {
        u32 page = 0xc000 + draw(0x3000);
        own(page, 1 + draw(24), draw(3) ? PAGE_FREE : PAGE_DATA, envs[1].self);
        if (!pages[page].state)
            pages[page].owner = 0;
    }
    info.free_at_boot = 0;
    for (u32 i = 0; i < PAGES; i++)
        info.free_at_boot += (pages[i].state & 0xff) == PAGE_FREE;
    for (u32 cpu = 0; cpu < CPUS; cpu++) {
        struct slices *s = &slices[cpu];
        s->current = draw(SLOTS);
        s->running = s->slot[s->current].owner;
        s->idle += ms * draw(900);
        s->switches += draw(400);
        for (u32 i = 0; i < SLOTS; i++)
            if (s->slot[i].owner)
                s->slot[i].used += ms * draw(10);
        traces[cpu].interrupts += draw(900);
        traces[cpu].timer += 100;
        traces[cpu].packets += draw(800);
        traces[cpu].cap_hits += draw(2000);
        traces[cpu].cap_misses += draw(20);
        traces[cpu].call[CALL_SLEEP] += draw(500);
        traces[cpu].call[CALL_FLOW_SEND] += draw(700);
        traces[cpu].call[CALL_PAGE_ALLOC] += draw(3);
    }
    for (u32 i = 0; i < 4; i++) {
        envs[i].runtime += ms * draw(i == 1 ? 300 : 20);
        flows[i].filled += draw(i ? 5 : 800);
        flows[i].received += draw(i ? 500 : 90000);
        flows[i].sent += draw(i ? 5 : 900);
        flows[i].sent_bytes += draw(i ? 500 : 900000);
    }
}

const struct info *machine_info(void) {
    return &info;
}

const struct page *machine_pages(void) {
    move();
    return pages;
}

const struct env *machine_env(u32 page) {
    return page - 0x400 < 4 ? &envs[page - 0x400] : NULL;
}

const struct slices *machine_slices(u32 cpu) {
    return cpu < CPUS ? &slices[cpu] : NULL;
}

const struct trace *machine_trace(u32 cpu) {
    return cpu < CPUS ? &traces[cpu] : NULL;
}

u32 machine_free_pages(void) { return info.free_at_boot; }
const struct flow *machine_flow(u32 page) {
    return page - 0x380 < 4 ? &flows[page - 0x380] : NULL;
}

void machine_forget(void) {
}
