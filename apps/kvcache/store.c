/* The table: a set of WAYS places for each hash. See table.h for the order in which an entry changes. */
#include "kvcache/store.h"

#include "base/memory.h"
#include "base/print.h"
#include "base/wait.h"
#include "machine/machine.h"

#define PATIENCE_MS 20

struct table *table;
struct store_counters counted;
static struct entry *entries;
static u32 first_page;
static u64 uniques, flush_at; /* 0: no flush is to come */

_Static_assert(sizeof(struct table) == PAGE && sizeof(struct entry) == PAGE, "a page each");

s64 store_open(u32 *first, u32 *pages) {
    table = memory_alloc_run(1 + ENTRIES_MOST, &first_page);
    entries = (struct entry *)(table + 1);
    *first = first_page;
    *pages = 1 + ENTRIES_MOST;
    return table ? 0 : E_LIMIT;
}

static u64 hash_of(const u8 *key, u32 length) {
    u64 hash = HASH_START;

    for (u32 i = 0; i < length; i++)
        hash = HASH_NEXT(hash, key[i]);
    return hash ? hash : 1;
}

/* The place of a key, expired or not; ENTRIES_MOST: none. */
static u32 place_of(const u8 *key, u32 length, u64 hash) {
    for (u32 way = 0; way < WAYS; way++) {
        u32 place = (u32)(hash % SETS) * WAYS + way;
        if (table->index[0][place] == hash && entries[place].key_length == length &&
            !memcmp(entries[place].key, key, length))
            return place;
    }
    return ENTRIES_MOST;
}

struct entry *store_find(const u8 *key, u32 length) {
    u32 place = place_of(key, length, hash_of(key, length));

    if (place == ENTRIES_MOST || (entries[place].expires && entries[place].expires <= rt_tsc()))
        return NULL;
    return &entries[place];
}

static void take_out(u32 place) {
    counted.items -= table->index[0][place] != 0;
    __atomic_store_n(&table->index[0][place], 0, __ATOMIC_SEQ_CST);
}

/* No run of the handler can still send what lies there, and the device is not reading it. */
static bool is_quiet(u32 place) {
    const volatile struct page *page = &machine_pages()[first_page + 1 + place];
    u64 limit = deadline_in(PATIENCE_MS);

    while (__atomic_load_n(&table->busy, __ATOMIC_SEQ_CST) || page->state >> 16 & 0xffff)
        if (rt_tsc() > limit)
            return false;
    return true;
}

/* The place of the set that is to be given up: an empty one, an expired one, or the oldest. */
static u32 victim_of(u64 hash) {
    u32 best = (u32)(hash % SETS) * WAYS;

    for (u32 place = best, way = 0; way < WAYS; way++, place++) {
        if (!table->index[0][place] || (entries[place].expires && entries[place].expires <= rt_tsc()))
            return place;
        if (entries[place].unique < entries[best].unique)
            best = place;
    }
    return best;
}

/* The end that an entry is to have, if no flush comes before. */
static u64 end_of(u64 expires) { return flush_at > rt_tsc() && (!expires || expires > flush_at) ? flush_at : expires; }

static void write_entry(struct entry *e, u64 hash, const u8 *key, u32 length, u32 flags, u64 expires, const u8 *value,
                        u32 bytes) {
    u64 sum = 0;

    *e = (struct entry){.hash = hash, .expires = end_of(expires), .unique = ++uniques, .key_length = length, .flags = flags};
    memcpy(e->key, key, length);
    memcpy(e->text, "VALUE ", 6);
    memcpy(e->text + 6, key, length);
    e->value_at = 6 + length + (u32)format((char *)e->text + 6 + length, 32, " %u %u\r\n", flags, bytes);
    e->value_length = bytes;
    memcpy(e->text + e->value_at, value, bytes);
    memcpy(e->text + e->value_at + bytes, "\r\nEND\r\n", 7);
    e->text_length = e->value_at + bytes + 7;
    for (u32 i = 0; i < e->text_length; i += 2)
        sum += (u32)e->text[i] << 8 | (i + 1 < e->text_length ? e->text[i + 1] : 0);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    e->sum = sum;
}

bool store_put(const u8 *key, u32 length, u32 flags, u64 expires, const u8 *value, u32 bytes) {
    u64 hash = hash_of(key, length);
    u32 place = place_of(key, length, hash);

    if (place == ENTRIES_MOST) {
        place = victim_of(hash);
        counted.evictions += table->index[0][place] != 0;
    }
    take_out(place);
    if (!is_quiet(place))
        return false;
    write_entry(&entries[place], hash, key, length, flags, expires, value, bytes);
    __atomic_store_n(&table->index[0][place], hash, __ATOMIC_SEQ_CST);
    counted.items++;
    counted.sets++;
    return true;
}

bool store_delete(const u8 *key, u32 length) {
    u32 place = place_of(key, length, hash_of(key, length));
    bool found = store_find(key, length) != NULL;

    if (place != ENTRIES_MOST)
        take_out(place);
    counted.deletes += found;
    return found;
}

/* A word that the handler reads at any time. */
void store_touch(struct entry *e, u64 expires) {
    __atomic_store_n(&e->expires, end_of(expires), __ATOMIC_RELAXED);
    counted.touches++;
}

void store_flush(u64 at) {
    flush_at = at;
    for (u32 place = 0; place < ENTRIES_MOST; place++)
        if (table->index[place / WAYS][place % WAYS] && (!entries[place].expires || entries[place].expires > at))
            __atomic_store_n(&entries[place].expires, at, __ATOMIC_RELAXED);
    counted.flushes++;
}
