/* The page array and the map of free pages (docs/memory.md). */
#include "core/page.h"

#include "core/cpu.h"
#include "core/env.h"
#include "core/info.h"
#include "core/lock.h"
#include "core/memory.h"
#include "core/revoke.h"

#define GENERATIONS 65536

struct page *page_array;
u32 page_count;
struct page *device_array;
u32 device_count;

/* A bit for each page, set when it is free; exposed. Whoever clears a bit has the page. A word
 * of free_words says which words of the map may hold a set bit: set after a bit is, and cleared
 * only by one who then looks again. */
static u64 *free_map;
static u64 *free_words;
static u32 map_words;
u8 *holder_count; /* of each 64 pages; zeros up to a multiple of 8 */
u32 *holder_sum;  /* of each HOLDER_SUM pages */
static u64 generations = GENERATIONS; /* pages have 1 at boot; no capability is older */

/* Each CPU takes so many at a time, looks for free pages where it found the last, and counts for itself: CPUs that
 * allocate have nothing in common but the map. */
u64 page_new_generation(void) {
    struct cpu *cpu = this_cpu();

    if (unlikely(cpu->generation % GENERATIONS == 0))
        cpu->generation = __atomic_fetch_add(&generations, GENERATIONS, __ATOMIC_SEQ_CST);
    return ++cpu->generation;
}

void page_init(struct page *array, u64 *map, u32 count) {
    page_array = array;
    page_count = count;
    free_map = map;
    map_words = (u32)round_up(count, 64) / 64;
    free_words = map + map_words;
    holder_count = (u8 *)(free_words + round_up(map_words, 64) / 64);
    holder_sum = (u32 *)(holder_count + round_up(map_words, 8));
    for (u32 i = 0; i < count; i++)
        array[i].state = PAGE_ABSENT;
}

/* 1 to 64 bits, none beyond the last. */
static inline u64 mask_of(u32 first, u32 count) { return ~0ull >> (64 - count) << first; }

static void mark_free(u32 page, u32 count) {
    for (u32 part; count; page += part, count -= part) {
        part = (u32)min_u64(count, 64 - page % 64);
        __atomic_fetch_or(&free_map[page / 64], mask_of(page % 64, part), __ATOMIC_SEQ_CST);
        /* Not written if it is set: it is many CPUs' line. Who clears it meanwhile sees the page's bit afterwards. */
        if (!(__atomic_load_n(&free_words[page / 4096], __ATOMIC_SEQ_CST) >> page / 64 % 64 & 1))
            __atomic_fetch_or(&free_words[page / 4096], 1ull << page / 64 % 64, __ATOMIC_SEQ_CST);
    }
}

/* Clears the bits of a mask in one word if all are set. */
static bool claim_word(u32 word, u64 mask) {
    u64 old = __atomic_load_n(&free_map[word], __ATOMIC_SEQ_CST);

    do {
        if ((old & mask) != mask)
            return false;
    } while (!__atomic_compare_exchange_n(&free_map[word], &old, old & ~mask, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (!(old & ~mask)) {
        __atomic_fetch_and(&free_words[word / 64], ~(1ull << word % 64), __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&free_map[word], __ATOMIC_SEQ_CST))
            __atomic_fetch_or(&free_words[word / 64], 1ull << word % 64, __ATOMIC_SEQ_CST);
    }
    return true;
}

/* Claims a run, or nothing of it. */
static bool claim(u32 page, u32 count) {
    if (page >= page_count || count > page_count - page)
        return false;
    for (u32 done = 0, part; done < count; done += part) {
        u32 at = page + done;
        part = (u32)min_u64(count - done, 64 - at % 64);
        if (claim_word(at / 64, mask_of(at % 64, part)))
            continue;
        mark_free(page, done); /* gives back what was claimed */
        return false;
    }
    this_cpu()->trace->free_pages -= count;
    return true;
}

/* Of the set bits of a word, those from which on `count` are set, as far as the word tells. */
static u64 starts(u64 bits, u32 count) {
    for (u32 n = 1, shift; n < count && n < 64; n *= 2) {
        shift = (u32)min_u64(n, count - n);
        bits &= bits >> shift | ~(~0ull >> shift);
    }
    return bits;
}

/* The next page from `at` on where a run of free ones may begin, or page_count. */
static u32 next_free(u32 at, u32 count) {
    for (u32 word = at / 64; word < map_words;) {
        u64 some = free_words[word / 64] & (~0ull << word % 64);
        if (!some) {
            word = word / 64 * 64 + 64;
            continue;
        }
        word = word / 64 * 64 + (u32)__builtin_ctzll(some);
        u64 bits = starts(__atomic_load_n(&free_map[word], __ATOMIC_RELAXED), count);
        if (word == at / 64)
            bits &= ~0ull << at % 64;
        if (bits)
            return word * 64 + (u32)__builtin_ctzll(bits);
        word++;
    }
    return page_count;
}

/* Whether all bits of a run are set; *from is where to look on if not: after the last that is not, of those looked at. */
static bool run_is_free(u32 page, u32 count, u32 *from) {
    *from = page_count;
    if (count > page_count - page)
        return false;
    for (u32 part; count; page += part, count -= part) {
        part = (u32)min_u64(count, 64 - page % 64);
        u64 taken = ~free_map[page / 64] & mask_of(page % 64, part);
        *from = page / 64 * 64 + 64 - (u32)__builtin_clzll(taken | 1);
        if (taken)
            return false;
    }
    return true;
}

/* The common case: the next free page after those that were claimed last begins a run, in one word of the map. */
static inline u32 claim_next(u32 count) {
    u32 at = this_cpu()->hint;
    u64 bits = at < page_count ? __atomic_load_n(&free_map[at / 64], __ATOMIC_RELAXED) >> at % 64 : 0;

    at += bits ? (u32)__builtin_ctzll(bits) : 0;
    if (unlikely(!bits || count > 64 - at % 64 || !claim_word(at / 64, mask_of(at % 64, count))))
        return PAGE_ANY;
    this_cpu()->trace->free_pages -= count;
    this_cpu()->hint = at + count;
    return at;
}

/* A run whose first number is `colour` modulo 2^order. */
static NOINLINE u32 claim_any(u32 count, u32 order, u32 colour) {
    u32 align = 1u << order;
    u32 start = this_cpu()->hint % page_count;

    for (int round = 0; round < 2; round++, start = 0) {
        for (u32 at = start; (at = next_free(at, count)) < page_count;) {
            u32 first = at + ((colour - at) & (align - 1));
            if (first >= page_count)
                break;
            if (run_is_free(first, count, &at) && claim(first, count)) {
                this_cpu()->hint = first + count;
                return first;
            }
        }
    }
    return PAGE_ANY;
}

static u64 holders_of_512(u32 page) { return __atomic_load_n((u64 *)&holder_count[page / 64], __ATOMIC_SEQ_CST); }

u32 page_next_holder(u32 page) {
    u32 end = (u32)min_u64((page | 63) + 1, page_count), next = page;

    if (page % HOLDER_SUM == 0)
        while (next < page_count && !__atomic_load_n(&holder_sum[next / HOLDER_SUM], __ATOMIC_SEQ_CST))
            next += HOLDER_SUM;
    if (page % 512 == 0 && next == page)
        while (next < page_count && !holders_of_512(next) && (next == page || next % HOLDER_SUM))
            next += 512;
    if (next > page)
        return next;
    if (!__atomic_load_n(&holder_count[page / 64], __ATOMIC_SEQ_CST))
        return end;
    while (++page < end && !page_holds(page_type(&page_array[page])))
        ;
    return page;
}

void page_declare(u32 page, u8 type, u32 owner) {
    CHECK(page < page_count);
    struct page *p = &page_array[page];
    p->generation = 1;
    p->owner = owner;
    p->state = type;
    if (type == PAGE_FREE) {
        mark_free(page, 1);
        info->free_at_boot++;
    } else {
        page_count_holder(page, type, 1);
    }
}

u32 page_free_count(void) {
    u64 sum = info->free_at_boot;

    for (u32 n = 0; n < cpu_count; n++)
        sum += cpus[n]->trace->free_pages;
    return (u32)sum;
}

s64 page_owned(u32 owner, u32 name, u32 count) {
    const struct page *p = &page_array[name];

    if (unlikely(!count || name >= page_count || count > page_count - name)) {
        p = page_get_device(name); /* descriptors are in a row, as pages are */
        if (!count || !p || page_get_device(name + count - 1) != p + count - 1)
            return E_BAD_ARGUMENT;
    }
    for (const struct page *end = p + count; p < end; p++)
        if (unlikely(page_owner(p) != owner))
            return E_NO_RIGHT;
    return 0;
}

u64 page_free_word(u32 page) { return free_map[page / 64]; }

struct page *page_get_device(u32 page) {
    for (u32 i = 0; i < info->devices; i++)
        if (page - info->device[i].first < info->device[i].pages)
            return &device_array[info->device[i].index + page - info->device[i].first];
    return NULL;
}

void page_unpin(u32 page) {
    u64 old = __atomic_fetch_sub(&page_get(page)->state, STATE_ONE_PIN, __ATOMIC_SEQ_CST);

    ASSERT(STATE_PINS(old) > 0);
}

s64 page_change(u32 page, u32 owner, u8 from, u16 to, u32 bindings, u64 *was) {
    struct page *p = page_get(page);

    if (!p || page_owner(p) != owner)
        return E_NO_RIGHT;
    u64 old = page_state(p);
    do {
        if (STATE_TYPE(old) != from)
            return E_WRONG_TYPE;
        if (STATE_BINDINGS(old) > bindings || STATE_PINS(old) || (old & STATE_TAKEN && from == PAGE_DATA))
            return E_BUSY;
        if (old & STATE_VITAL && (u8)to != PAGE_DATA && to != PAGE_CONTEXT && to != PAGE_RING)
            return E_BUSY;
    } while (!__atomic_compare_exchange_n(&p->state, &old, (old & (~0xffffull | STATE_VITAL | STATE_TAKEN)) | to,
                                          false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    *was = old;
    return 0;
}

s64 page_use(u32 page, u32 owner, u8 type, u32 bindings) {
    s64 error = page_retype(page, owner, PAGE_DATA, type, bindings);

    if (!error && page_bind(page, type)) { /* it is being taken since just now */
        page_retype(page, owner, type, PAGE_DATA, UINT32_MAX);
        error = E_BUSY;
    }
    return error;
}

void page_end_use(u32 page, u8 type, u16 to) {
    CHECK(!page_retype(page, page_owner(page_get(page)), type, to, UINT32_MAX));
    page_unbind(page);
}

void page_zero(u32 page, u64 was) {
    void *at = page_ptr(page);
    u64 words = was & STATE_ZERO ? 0 : PAGE_SIZE / 8;

    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory");
}

/* Changes flags unless one of `refused` is set. */
static bool set_flags(u32 page, u64 refused, u64 clear, u64 set) {
    u64 *state = &page_get(page)->state, old = page_state(page_get(page));

    do {
        if (old & refused)
            return false;
    } while (!__atomic_compare_exchange_n(state, &old, (old & ~clear) | set, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return true;
}

s64 page_set_vital(u32 page, bool vital) {
    return set_flags(page, vital ? STATE_VITAL | STATE_TAKEN : 0, STATE_VITAL, vital ? STATE_VITAL : 0) ? 0 : E_BUSY;
}

s64 page_take_begin(u32 page) {
    return set_flags(page, STATE_VITAL, 0, STATE_TAKEN) ? 0 : E_VITAL;
}

void page_take_end(u32 page, struct env *from, struct env *taker) {
    struct page *p = page_get(page);

    if (!taker) {
        __atomic_fetch_and(&p->state, ~STATE_TAKEN, __ATOMIC_SEQ_CST);
        return;
    }
    ASSERT(page_owner(p) == from->self && !STATE_BINDINGS(p->state) && !STATE_PINS(p->state));
    u64 becomes = page_type(p) == PAGE_DEVICE ? PAGE_DEVICE : PAGE_DATA | STATE_ZERO;
    if (becomes != PAGE_DEVICE)
        page_zero(page, page_state(p));
    page_unlink(from, page);
    page_link(taker, page);
    p->generation = page_new_generation();
    p->where = 0;
    __atomic_store_n(&p->owner, taker->self, __ATOMIC_SEQ_CST);
    __atomic_store_n(&p->state, becomes, __ATOMIC_SEQ_CST);
}

void page_link(struct env *env, u32 page) {
    struct page *p = page_get(page);

    p->prev = 0;
    p->next = env->first_page;
    if (p->next)
        page_get(p->next)->prev = page;
    env->first_page = page;
    env->pages++;
}

static ALWAYS_INLINE void unlink_page(struct env *env, struct page *p) {
    u32 *next = p->prev ? &page_get(p->prev)->next : &env->first_page;

    *next = p->next;
    if (p->next)
        page_get(p->next)->prev = p->prev;
    p->next = p->prev = 0;
    env->pages--;
}

void page_unlink(struct env *env, u32 page) { unlink_page(env, page_get(page)); }

s64 page_take(struct env *env, u32 name, u32 count, u32 order) {
    s64 result = E_LIMIT;

    env_lock(env);
    if (env->state != ENV_LIVE) {
        result = E_DEAD;
    } else if (count <= env->page_limit - min_u64(env->pages, env->page_limit)) {
        if (name != PAGE_ANY)
            name = claim(name, count) ? name : PAGE_ANY;
        else if (order || (name = claim_next(count)) == PAGE_ANY)
            name = claim_any(count, order & 0xff, order >> 8);
        result = name == PAGE_ANY ? E_NOT_FREE : (s64)name;
    }
    if (result >= 0) {
        u64 generation = page_new_generation();
        for (u32 i = 0; i < count; i++) {
            struct page *p = &page_array[name + i];
            ASSERT(page_type(p) == PAGE_FREE);
            page_zero(name + i, page_state(p));
            p->generation = generation;
            page_link(env, name + i);
            __atomic_store_n(&p->owner, env->self, __ATOMIC_SEQ_CST);
            __atomic_store_n(&p->state, PAGE_DATA | STATE_ZERO, __ATOMIC_RELEASE);
        }
    }
    env_unlock(env);
    return result;
}

static ALWAYS_INLINE u32 release_run(struct env *env, u32 name, u32 count, u8 type) {
    u64 generation = page_new_generation();
    u32 done = 0;

    for (; done < count; done++) {
        struct page *p = &page_array[name + done];
        u64 old = type | (page_state(p) & 0xff00 & ~STATE_VITAL);
        u64 zero = type == PAGE_TABLE ? STATE_ZERO : old & STATE_ZERO;
        if (!__atomic_compare_exchange_n(&p->state, &old, PAGE_FREE | zero, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            break;
        page_count_holder(name + done, type, -1);
        unlink_page(env, p);
        p->generation = generation;
        p->where = 0;
        __atomic_store_n(&p->owner, 0, __ATOMIC_SEQ_CST);
#ifdef DEBUG
        if (!zero)
            memset(page_ptr(name + done), 0xdb, PAGE_SIZE);
#endif
    }
    mark_free(name, done);
    this_cpu()->trace->free_pages += done;
    return done;
}

u32 page_release_run(struct env *env, u32 name, u32 count) { return release_run(env, name, count, PAGE_DATA); }

s64 page_release(struct env *env, u32 page, u8 type) { return release_run(env, page, 1, type) ? 0 : E_BUSY; }

void page_look_from(u32 page) {
    if (page < this_cpu()->hint && page / 512 == this_cpu()->hint / 512)
        this_cpu()->hint = page;
}

s64 page_move(struct env *from, struct env *to, u32 name, u32 count) {
    if (to->state != ENV_LIVE)
        return E_DEAD;
    if (count > to->page_limit - min_u64(to->pages, to->page_limit))
        return E_LIMIT;
    for (u32 i = 0; i < count; i++) {
        u64 state = page_state(page_get(name + i));
        if (STATE_TYPE(state) != PAGE_DATA && STATE_TYPE(state) != PAGE_FLOW && STATE_TYPE(state) != PAGE_DEVICE)
            return E_WRONG_TYPE;
        if (state & (STATE_VITAL | STATE_TAKEN))
            return E_BUSY;
    }
    for (u32 i = 0; i < count; i++) {
        page_unlink(from, name + i);
        page_link(to, name + i);
        __atomic_store_n(&page_get(name + i)->owner, to->self, __ATOMIC_SEQ_CST);
    }
    revoke_given(from, RESOURCE_PAGES, count);
    return 0;
}
