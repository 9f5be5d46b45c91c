/* One that never answers. It hoards memory and hears no request; so, past the deadline, pages are
 * taken from it by force. What it needs to run it has declared vital, and that is never taken. With
 * what is left it goes on: a page that has gone is one that it no longer counts. */
#include "common.h"

#define PAGE_FAULT 14
#define MOST 262144
#define STEP 512
#define GONE (~0ull)

/* Loads a word, or returns GONE if its page is not there any more. */
u64 load(const u64 *at);
extern char load_failed[];
__asm__(".text\nload: movq (%rdi), %rax\nret\nload_failed: movq $-1, %rax\nret\n");

static u64 hoard; /* addresses for MOST pages */
static u32 pages;
static struct losses *losses;

static void on_exception(struct frame *frame) {
    if (frame->cause == PAGE_FAULT && frame->rip == (u64)load)
        frame->rip = (u64)load_failed;
    else
        rt_on_exception(NULL); /* not one of those: end by it */
}

static void vital(u64 at) {
    static u32 place;

    if (place < VITALS && !sys_vital_set(place, memory_page_of((void *)at)))
        place++;
}

/* The stack, and code and data: these are the first pages of the program. */
static void declare_vital(void) {
    u64 stack = (u64)__builtin_frame_address(0);

    vital(stack);
    vital(stack - RT_PAGE);
    for (u64 at = 0x400000; at < 0x400000 + (VITALS - 2) * RT_PAGE; at += RT_PAGE)
        vital(at);
}

static void bind_losses(void) {
    u32 page;

    losses = memory_alloc_run(1, &page);
    if (losses)
        sys_loss_bind(0, page);
}

static u64 *page_at(u32 i) { return (u64 *)(hoard + i * RT_PAGE); }

static void collect(u32 want) {
    hoard = memory_reserve(MOST);
    for (; pages < want && pages < MOST; pages++) {
        if (own()->pages + 16 >= own()->page_limit && !ask_for(STEP, 500))
            return;
        s64 page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
        if (page < 0 || memory_map_at((u64)page_at(pages), (u32)page, 1, MAP_WRITE, 0))
            return;
        *page_at(pages) = pages;
    }
}

static u32 count_left(void) {
    u32 left = 0;

    for (u32 i = 0; i < pages; i++)
        left += load(page_at(i)) == i;
    return left;
}

/* Losses that the kernel told by name. Those that found no room in the page are only counted. */
static u64 told(void) {
    u64 written = losses ? __atomic_load_n(&losses->written, __ATOMIC_ACQUIRE) : 0;

    if (losses)
        __atomic_store_n(&losses->read, written, __ATOMIC_RELEASE);
    return written;
}

int main(void) {
    u32 said = 0;

    declare_vital();
    rt_on_exception(on_exception);
    bind_losses();
    collect(creator_room() / 100 * argument("share", 50));
    print("mute: %u pages, %u of them vital\n", own()->pages, own()->vitals);
    for (;;) {
        u32 left = count_left();
        if (left != said)
            print("mute: %u of %u pages are left, %lu were taken, %lu of them told by name; I go "
                  "on\n",
                  left, pages, own()->losses, told());
        said = left;
        sys_sleep(deadline_in(1000), 0, 0);
    }
}
