/* The checker. It counts the bindings and pins that environments, tables, contexts, sleepers, rings and
 * flows hold, page by page, and compares with the page array: its state, its owners' lists, its
 * free map. While it counts the other CPUs stand still in user mode or idle. */
#include "core/check.h"

#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/info.h"
#include "core/load.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/schedule.h"
#include "core/shootdown.h"
#include "core/wait.h"
#include "net/flow.h"
#include "targe/call_table.h"
#include "x86/registers.h"

#define MOST_PRINTED 20

static u64 *counts; /* bindings and pins as in a page's state, and below how often it is listed; all zero but while it counts */
static u32 found;
static u32 busy;

static void complain(u32 page, const char *what, u64 is, u64 should) {
    if (found++ < MOST_PRINTED)
        print("check: page %x: %s is %lx, should be %lx\n", page, what, is, should);
}

/* Pages of devices beyond the page array are counted after all others. */
static u64 *count_of(u32 page) {
    return page < page_count ? &counts[page] : &counts[page_count + (page_get(page) - device_array)];
}

static void held(u32 page, bool pin) {
    if (!page_get(page))
        complain(page, "number", page, page_count);
    else
        *count_of(page) += pin ? STATE_ONE_PIN : STATE_ONE_BINDING;
}

static void check_leaf(u32 table) {
    const u64 *entry = page_ptr(table);

    for (u32 i = 0; i < 512; i++) {
        if (!(entry[i] & PTE_PRESENT))
            continue;
        u32 page = page_of_phys((phys){entry[i] & PTE_ADDRESS});
        held(page, false);
        held(table, true);
        u8 type = page_get(page) ? page_type(page_get(page)) : PAGE_ABSENT;
        bool writable = entry[i] & PTE_WRITE;
        bool may_read = page_holds(type) || type == PAGE_EXPOSED;
        bool may_write = type == PAGE_DATA || type == PAGE_RING || type == PAGE_CONTEXT || type == PAGE_DEVICE;
        if (type == PAGE_DEVICE && (!(entry[i] & PTE_UNCACHED) || !(entry[i] & PTE_NX)))
            complain(page, "entry of a device's page", entry[i], PTE_UNCACHED | PTE_NX);
        if (!may_write && (writable || !may_read))
            complain(page, "type of a mapped page", type, PAGE_DATA);
    }
}

static void check_large(u32 first, u32 level) {
    if (level != 2 || first % 512)
        complain(first, "level of a large mapping", level, 2);
    for (u32 i = 0; i < 512; i++) {
        held(first + i, false);
        u8 type = first + i < page_count ? page_type(page_get(first + i)) : PAGE_ABSENT;
        if (type != PAGE_DATA && type != PAGE_RING && type != PAGE_CONTEXT)
            complain(first + i, "type of a page mapped large", type, PAGE_DATA);
    }
}

static void check_table(u32 table, u32 level) {
    const u64 *entry = page_ptr(table);

    if (level == 1) {
        check_leaf(table);
        return;
    }
    for (u32 i = 0; i < (level == 4 ? 256 : 512); i++) {
        if (!(entry[i] & PTE_PRESENT))
            continue;
        u32 page = page_of_phys((phys){entry[i] & PTE_ADDRESS});
        held(table, true);
        if (entry[i] & PTE_LARGE) {
            check_large(page, level);
            continue;
        }
        held(page, false);
        struct page *p = page_get(page);
        if (!p || page_type(p) != PAGE_TABLE || p->where != table || STATE_LEVEL(page_state(p)) != level - 1)
            complain(page, "a bound table", p ? page_state(p) : 0, PAGE_TABLE);
    }
}

static void check_env(struct env *e) {
    u32 listed = 0, previous = 0;

    for (u32 i = 0, used[] = {e->root, e->event_page, e->loss_page}; i < ARRAY_SIZE(used); i++)
        if (used[i])
            held(used[i], false);
    for (u32 n = 0; n < MAX_CPUS; n++) {
        if (e->context[n].page)
            held(e->context[n].page, false);
        if (e->context[n].state == CONTEXT_WAITING)
            wait_pages((u32)e->context[n].value, held);
        if (e->context[n].word && !schedule_waits_for_own(&e->context[n]))
            held(page_of_phys((phys){e->context[n].word}), false);
    }
    for (u32 page = e->first_page; page; page = page_get(page)->next) {
        struct page *p = page_get(page);
        if (page_owner(p) != e->self || p->prev != previous || (u16)(*count_of(page))++) {
            complain(page, "owner of a listed page", page_owner(p), e->self);
            break;
        }
        if (page_type(p) == PAGE_TABLE)
            check_table(page, STATE_LEVEL(page_state(p)));
        previous = page;
        listed++;
    }
    if (listed != e->pages)
        complain(e->self, "number of pages", e->pages, listed);
}

static void check_slices(void) {
    for (u32 n = 0; n < cpu_count; n++)
        for (u32 slot = 0; slot < SLOTS; slot++) {
            u32 owner = cpus[n]->slices->slot[slot].owner;
            if (!owner != !(cpus[n]->owned >> slot & 1) || (owner && page_type(page_get(owner)) != PAGE_ENV))
                complain(owner, "owner of a slice", slot, n);
        }
}

static void check_page(u32 page) {
    struct page *p = page_get(page);
    u64 state = page_state(p);
    u64 *count = count_of(page);

    if (STATE_BINDINGS(state) != STATE_BINDINGS(*count))
        complain(page, "bindings", STATE_BINDINGS(state), STATE_BINDINGS(*count));
    if (STATE_ENTRIES(state) != STATE_ENTRIES(*count))
        complain(page, "pins or entries", STATE_ENTRIES(state), STATE_ENTRIES(*count));
    if (!page_owner(p) != !(u16)*count)
        complain(page, "owner", page_owner(p), 0);
    *count = 0; /* for the next time */
}

/* Most pages of a large machine are free, and nothing is counted for them: so much is seen soon. */
static bool all_free(u32 first) {
    u64 any = ~page_free_word(first) | holder_count[first / 64];

    for (u32 page = first; page < first + 64 && !any; page++)
        any = ((page_state(&page_array[page]) & ~STATE_ZERO) ^ PAGE_FREE) | page_owner(&page_array[page]) | counts[page];
    return !any;
}

static u32 check_some(u32 first, u32 end) {
    u32 free_pages = 0, holders = 0;

    for (u32 page = first; page < end; page++) {
        u8 type = page_type(page_get(page));
        check_page(page);
        if ((page_free_word(page) >> page % 64 & 1) != (type == PAGE_FREE))
            complain(page, "free map", type, PAGE_FREE);
        free_pages += type == PAGE_FREE;
        holders += page_holds(type);
    }
    if (holder_count[first / 64] != holders)
        complain(first, "holders from here on", holder_count[first / 64], holders);
    return free_pages;
}

static void check_pages(void) {
    u32 free_pages = 0;

    for (u32 page = 0; page < page_count; page += 64)
        free_pages += all_free(page) ? 64 : check_some(page, (u32)min_u64(page + 64, page_count));
    for (u32 page = info->code_first; page < info->code_first + info->code_pages; page++)
        if (!load_is_sound(page))
            complain(page, "what the kernel may do with it", memory_bits(page), page_type(page_get(page)));
    for (const struct device *d = info->device; d < info->device + info->devices; d++)
        for (u32 i = 0; i < d->pages && d->first >= page_count; i++)
            check_page(d->first + i);
    if (free_pages != page_free_count())
        complain(0, "number of free pages", page_free_count(), free_pages);
}

void check_init(void) {
    u64 bytes = round_up((page_count + device_count) * sizeof *counts, PAGE_SIZE);

    counts = boot_pages((u32)(bytes / PAGE_SIZE));
}

s64 check_machine(void) {
    if (__atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE))
        return E_AGAIN;
    stop_others();
    found = 0;
    for (u32 e = info->first_env; e; e = env_of(e)->next)
        check_env(env_of(e));
    check_slices();
    found += flow_check(held);
    check_pages();
    start_others();
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
    return found;
}

s64 call_check(u64 machine) {
    TRY(cap_present(machine, CAP_MACHINE, RIGHT_TRACE, NULL));
    return check_machine();
}
