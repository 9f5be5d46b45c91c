/* A cache that fills memory. Its blocks are costly to compute and can be computed again, so they
 * lie in a region whose pages may be discarded; beside them it keeps a ledger, which may not be
 * lost. It takes all the memory that it can have, and gives it back when it is asked, without
 * noticing more than that some blocks are computed again. Every block that it uses, it checks. */
#include "common.h"
#include "vm/swap.h"
#include "vm/vm.h"

#define WORDS (RT_PAGE / 8)
#define LEDGER 64         /* pages */
#define STEP 256          /* pages that it asks for at a time */
#define SLACK 512         /* room that it leaves to others */
#define LOOKUPS 200       /* between two pauses of 2 ms */
#define REPORT_MS 2000

static struct vm_region *blocks, *ledger;
static u64 random = 88172645463325252ull, lookups, computed, wrong;

static u64 next(u64 *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* A block's words follow from its number; the last is their sum. */
static void compute(struct vm_region *r, u64 index, void *page) {
    u64 *word = page, x = index + 1, sum = 0;

    (void)r;
    for (u32 i = 0; i < WORDS - 1; i++)
        sum += word[i] = next(&x);
    word[WORDS - 1] = sum + index;
    computed++;
}

static bool is_right(const u64 *word, u64 index) {
    u64 x = index + 1, sum = 0;

    if (word[0] != next(&x))
        return false;
    for (u32 i = 0; i < WORDS - 1; i++)
        sum += word[i];
    return word[WORDS - 1] == sum + index;
}

static void look_up(u64 index) {
    u64 *count = (u64 *)ledger->at + index % (LEDGER * WORDS);

    wrong += !is_right((const u64 *)(blocks->at + index * RT_PAGE), index);
    ++*count;
    lookups++;
}

/* No lookup may be missing in the ledger, wherever its pages have been. */
static void check_ledger(void) {
    u64 sum = 0;

    for (u32 i = 0; i < LEDGER * WORDS; i++)
        sum += ((const u64 *)ledger->at)[i];
    wrong += sum != lookups;
}

static void grow(void) {
    if (own()->page_limit - own()->pages < STEP / 2 && creator_room() > STEP + SLACK)
        ask_for(STEP, 100);
}

static void report(void) {
    const struct vm_counts *c = vm_counts();

    check_ledger();
    print("cache: %lu blocks in memory, %lu computed, %lu lookups, %lu wrong; given back %lu, "
          "saved %lu, "
          "brought back %lu, lost %lu\n",
          c->resident, computed, lookups, wrong, c->given, c->saves, c->reloads, c->lost);
}

int main(void) {
    u64 due = 0;
    bool hashed = argument("hashed", 0);
    u32 count = argument("blocks", 200000);

    if (vm_init(&(struct vm_options){.shape = hashed ? &vm_hashed : &vm_radix,
                                     .frames = count + 4096}))
        return 1;
    blocks = vm_make(count, &(struct vm_region){.flags = VM_DISCARD, .fill = compute});
    ledger = vm_make(LEDGER, NULL);
    if (!blocks || !ledger)
        return 2;
    u32 server = sibling("swapd");
    if (server && vm_swap(server, 256))
        print("cache: no swap server\n");
    for (;;) {
        for (u32 i = 0; i < LOOKUPS; i++)
            look_up(next(&random) % count);
        grow();
        if (rt_tsc() >= due) {
            report();
            due = deadline_in(REPORT_MS);
        }
        sys_sleep(deadline_in(2), 0, 0);
    }
}
