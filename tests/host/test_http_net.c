/* The parts around the HTTP server: neighbours, the keyed hash, and the machine as JSON. */
// sources: libos/lib/net/backlog.c libos/lib/net/neighbour.c libos/lib/net/siphash.c libos/web/machine_json.c libos/web/text.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/machine.h"
#include "net/backlog.h"
#include "net/neighbour.h"
#include "net/siphash.h"
#include "web/http.h"
#include "web/machine_json.h"

/* ---- a machine to be described */

#define PAGES 300000 /* more than two slices of a walk */

static struct info info = {.pages = PAGES, .tsc_hz = 1000000000, .cpus = 1, .first_env = 7};
static struct page pages[PAGES];
static struct env env;
static struct flow flow;
static struct slices slices;
static struct trace trace;
struct http_counters http_counters;

const struct info *machine_info(void) { return &info; }
u32 machine_free_pages(void) { return info.free_at_boot; }
const struct page *machine_pages(void) { return pages; }
const struct env *machine_env(u32 page) { return page ? &env : NULL; }
const struct slices *machine_slices(u32 cpu) { return cpu ? NULL : &slices; }
const struct trace *machine_trace(u32 cpu) { return cpu ? NULL : &trace; }
const struct flow *machine_flow(u32 page) { return page ? &flow : NULL; }
void machine_forget(void) {}

static char text[LIVE_SIZE + 1];

static u32 write_all(u64 now) {
    while (machine_json_work())
        ;
    u32 length = machine_json_write(text, LIVE_SIZE, now);
    text[length] = 0;
    return length;
}

/* A JSON value: returns what follows it, or fails. */
static const char *skip_value(const char *at);

static const char *skip_members(const char *at, char end, bool named) {
    if (*at == end)
        return at + 1;
    for (;;) {
        if (named) {
            assert_int_equal(*at, '"');
            at = skip_value(at);
            assert_int_equal(*at, ':');
            at++;
        }
        at = skip_value(at);
        if (*at == end)
            return at + 1;
        assert_int_equal(*at, ',');
        at++;
    }
}

static const char *skip_value(const char *at) {
    if (*at == '{')
        return skip_members(at + 1, '}', true);
    if (*at == '[')
        return skip_members(at + 1, ']', false);
    if (*at == '"') {
        for (at++; *at != '"'; at++)
            assert_true(*at >= ' ' && *at <= '~' && *at != '\\');
        return at + 1;
    }
    assert_true(*at >= '0' && *at <= '9');
    return at + strspn(at, "0123456789");
}

/* Checks that the map covers all pages once, and returns how many runs it has. */
static u32 check_map(void) {
    const char *at = strstr(text, "\"map\":[") + 7;
    u32 next = 0, runs = 0, first, count, type, owner;

    for (; sscanf(at, "[%u,%u,%u,%u]", &first, &count, &type, &owner) == 4; runs++) {
        assert_int_equal(first, next);
        assert_true(count > 0);
        next = first + count;
        at = strchr(at, ']') + 1;
        if (*at == ',')
            at++;
    }
    assert_int_equal(next, PAGES);
    return runs;
}

static void json_is_json(void **state) {
    (void)state;
    memcpy(env.name, "a\"\\\n\xff", 6);
    env.next = 7; /* a list that bites its tail */
    info.first_flow = 5;
    flow.next = 5;
    trace.call[CALL_SLEEP] = ~0ull;
    machine_json_init();
    assert_true(write_all(1000) > 0);
    assert_string_equal(skip_value(text), "\n");
    assert_non_null(strstr(text, "\"sleep\":18446744073709551615"));
    assert_int_equal(machine_json_write(text, 100, 1001), 0); /* too small: nothing */
    env.next = flow.next = 0;
}

static void map_of_runs(void **state) {
    (void)state;
    for (u32 i = 0; i < PAGES; i++)
        pages[i] = (struct page){.state = i < 1000 ? PAGE_KERNEL : PAGE_FREE};
    for (u32 i = 5000; i < 5010; i++)
        pages[i] = (struct page){.state = PAGE_DATA | 5ull << 32, .owner = 7};
    machine_json_init();
    write_all(2000);
    assert_int_equal(check_map(), 4);
    assert_non_null(strstr(text, "[5000,10,1,7]"));
    while (machine_json_work())
        ;
    /* every page differs from its neighbours: coarser, but whole and bounded */
    for (u32 i = 0; i < PAGES; i++)
        pages[i] = (struct page){.state = PAGE_DATA, .owner = i % 3};
    write_all(3000); /* begins a walk and shows the old one */
    assert_int_equal(check_map(), 4);
    write_all(3001);
    u32 runs = check_map();
    assert_true(runs > MAP_RUNS / 8 && runs <= MAP_RUNS);
    assert_null(strstr(text, "\"grain\":1,"));
    /* and a long run between short ones survives */
    for (u32 i = 100000; i < 200000; i++)
        pages[i] = (struct page){.state = PAGE_FREE};
    machine_json_init();
    write_all(4000);
    assert_true(check_map() <= MAP_RUNS);
    const char *run = strstr(text, ",0,0]");
    while (run && *run != '[')
        run--;
    u32 first, count;
    assert_int_equal(sscanf(run, "[%u,%u", &first, &count), 2);
    assert_true(first <= 100000 + 4096 && count >= 90000);
}

static void flows_in_words(void **state) {
    struct masked *m = &flow.receive;

    (void)state;
    info.first_flow = 5;
    memset(m, 0, sizeof *m);
    write_all(5000);
    assert_non_null(strstr(text, "\"takes\":\"frames\""));
    memset(m->mask + 12, 0xff, 2);
    m->value[12] = 8, m->value[13] = 6;
    write_all(5001);
    assert_non_null(strstr(text, "\"takes\":\"arp\""));
    m->value[13] = 0;
    m->mask[23] = 0xff;
    m->value[23] = 17;
    m->shift_scale = 4;
    m->mask2[2] = m->mask2[3] = 0xff;
    m->value2[3] = 7;
    write_all(5002);
    assert_non_null(strstr(text, "\"takes\":\"udp 7\""));
    m->mask2[2] = m->mask2[3] = 0;
    m->range_part = 2;
    m->range_offset = 2;
    m->low = 8000;
    m->high = 8099;
    write_all(5003);
    assert_non_null(strstr(text, "\"takes\":\"udp 8000-8099\""));
    m->range_part = 0;
}

/* ---- neighbours */

static u32 address(u32 a, u32 b, u32 c, u32 d) { return a | b << 8 | c << 16 | d << 24; }

static void neighbours_learn_and_forget(void **state) {
    static struct neighbours table;
    u8 mac[6] = {2, 1, 1, 1, 1, 1}, other[6] = {2, 9, 9, 9, 9, 9}, group[6] = {3, 1, 1, 1, 1, 1};

    (void)state;
    neighbours_init(&table, address(10, 0, 2, 15), address(255, 255, 255, 0));
    assert_null(neighbours_find(&table, address(10, 0, 2, 2)));
    assert_null(neighbours_find(&table, address(8, 8, 8, 8)));
    neighbours_learn(&table, address(10, 0, 2, 2), mac);
    assert_memory_equal(neighbours_find(&table, address(10, 0, 2, 2)), mac, 6);
    neighbours_learn(&table, address(10, 0, 2, 2), other); /* it moved */
    assert_memory_equal(neighbours_find(&table, address(10, 0, 2, 2)), other, 6);
    neighbours_learn(&table, address(8, 8, 8, 8), mac); /* through a gateway, and so is all else */
    assert_memory_equal(neighbours_find(&table, address(9, 9, 9, 9)), mac, 6);
    assert_null(neighbours_find(&table, address(10, 0, 2, 3)));
    const u32 nobody[] = {0, address(10, 0, 2, 15), address(10, 0, 2, 0), address(10, 0, 2, 255),
                          address(127, 0, 0, 1), address(224, 0, 0, 1), ~0u};
    for (u32 i = 0; i < sizeof nobody / sizeof nobody[0]; i++)
        neighbours_learn(&table, nobody[i], other);
    assert_null(neighbours_find(&table, address(10, 0, 2, 0)));
    assert_memory_equal(neighbours_find(&table, address(9, 9, 9, 9)), mac, 6);
    neighbours_learn(&table, address(10, 0, 2, 4), group);
    assert_null(neighbours_find(&table, address(10, 0, 2, 4)));
}

static void neighbours_make_room(void **state) {
    static struct neighbours table;
    u32 found = 0;

    (void)state;
    neighbours_init(&table, address(10, 0, 0, 1), address(255, 0, 0, 0));
    for (u32 i = 0; i < 5000; i++) {
        u8 mac[6] = {2, 0, 0, 0, (u8)(i >> 8), (u8)i};
        neighbours_learn(&table, address(10, 1, i >> 8, i & 255), mac);
        assert_memory_equal(neighbours_find(&table, address(10, 1, i >> 8, i & 255)), mac, 6);
        assert_true(i < 1 || neighbours_find(&table, address(10, 1, 0, 0)) || i > NEIGHBOUR_WAYS);
    }
    for (u32 i = 0; i < 5000; i++)
        found += neighbours_find(&table, address(10, 1, i >> 8, i & 255)) != NULL;
    assert_true(found > NEIGHBOURS / 2 && found <= NEIGHBOURS);
}

/* ---- the backlog */

/* Random puts and takes, held against numbers: each frame is filled with its own. */
static void backlog_keeps_order(void **state) {
    static u8 frame[600];
    u32 seed = 1, put = 0, taken = 0, full = 0;

    (void)state;
    for (u32 size = 16; size <= 4096; size *= 2) {
        struct backlog b = {.bytes = aligned_alloc(8, size), .size = size};
        for (u32 i = 0; i < 20000; i++) {
            seed = seed * 1664525 + 1013904223;
            u32 length = (seed >> 8) % 600;
            bool verified;
            if (seed >> 31) {
                memset(frame, (int)(put * 7), sizeof frame);
                if (backlog_put(&b, frame, length, put & 1))
                    put++;
                else
                    full++;
                continue;
            }
            const u8 *out = backlog_take(&b, &length, &verified);
            assert_true(out || put == taken);
            if (!out)
                continue;
            assert_int_equal(verified, taken & 1);
            for (u32 k = 0; k < length; k++)
                assert_int_equal(out[k], (u8)(taken * 7));
            taken++;
        }
        taken = put; /* what is left goes with it */
        free(b.bytes);
    }
    assert_true(put > 20000 && full > 20000);
}

static void siphash_vectors(void **state) {
    /* from the authors' reference implementation: key and message are 00 01 02 .. */
    static const struct {
        u32 length;
        u64 hash;
    } vectors[] = {{0, 0x726fdb47dd0e0e31}, {1, 0x74f839c593dc67fd}, {8, 0x93f5f5799a932462},
                   {15, 0xa129ca6149be45e5}, {63, 0x958a324ceb064572}};
    u64 key[2];
    u8 bytes[64];

    (void)state;
    for (u32 i = 0; i < sizeof bytes; i++)
        bytes[i] = (u8)i;
    memcpy(key, bytes, sizeof key);
    for (u32 i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        assert_true(siphash(key, bytes, vectors[i].length) == vectors[i].hash);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_json), cmocka_unit_test(map_of_runs),
        cmocka_unit_test(flows_in_words), cmocka_unit_test(neighbours_learn_and_forget),
        cmocka_unit_test(neighbours_make_room), cmocka_unit_test(backlog_keeps_order),
        cmocka_unit_test(siphash_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
