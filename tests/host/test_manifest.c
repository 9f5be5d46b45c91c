/* init's parser of manifests: every word of docs/manifest.md, and every mistake. */
// sources: libos/init/manifest.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "init/manifest.h"

static struct manifest m;
static u32 line;

/* The text lies at the end of an allocation of its size: reading on is found by ASan. */
static const char *parse(const char *text) {
    size_t length = strlen(text);
    char *copy = malloc(length ? length : 1);

    memcpy(copy, text, length);
    const char *wrong = manifest_parse(copy, length, &m, &line);
    free(copy);
    return wrong;
}

#define PORTS "a port is a number from 1 to 65535, and PORT-PORT goes upwards"
#define ENV "env a program=a.elf pages=10 slices=0:1"

static void test_all_words(void **state) {
    (void)state;
    assert_null(parse(
        "# comment\n\n\tnet gateway=192.168.1.1 address=192.168.1.7/16 # more\r\n"
        "env web program=web.elf pages=8192 slices=0:40,3:1 flow=arp flow=icmp flow=tcp:80 "
        "flow=udp:8000-65535 device=1b36:00f5 console=both site power trace control restart limit=9000 arg=one arg=two\n"
        "env b program=b pages=1 slices=63:64 console=read\n" ENV " console=write"));
    assert_int_equal(m.address, 0xc0a80107);
    assert_int_equal(m.prefix, 16);
    assert_int_equal(m.gateway, 0xc0a80101);
    assert_int_equal(m.envs, 3);
    const struct manifest_env *e = &m.env[0];
    assert_string_equal(e->name, "web");
    assert_string_equal(e->program, "web.elf");
    assert_string_equal(e->arguments, "one two");
    assert_int_equal(e->pages, 8192);
    assert_int_equal(e->slice_kinds, 2);
    assert_int_equal(e->slices[0].count, 40);
    assert_int_equal(e->slices[1].cpu, 3);
    assert_int_equal(e->flows, 4);
    assert_int_equal(e->flow[0].protocol, START_ARP);
    assert_int_equal(e->flow[1].protocol, START_ICMP);
    assert_int_equal(e->flow[2].protocol, START_TCP);
    assert_int_equal(e->flow[2].port, 80);
    assert_int_equal(e->flow[3].protocol, START_UDP);
    assert_int_equal(e->flow[3].port, 8000);
    assert_int_equal(e->flow[3].last, 65535);
    assert_int_equal(e->flow[2].last, 80);
    assert_int_equal(e->devices, 1);
    assert_int_equal(e->device[0], 0x1b3600f5);
    assert_int_equal(e->console, RIGHT_READ | RIGHT_WRITE);
    assert_true(e->site && e->power && e->trace && e->control && e->restart);
    e = &m.env[1];
    assert_int_equal(e->slices[0].cpu, 63);
    assert_int_equal(e->slices[0].count, 64);
    assert_int_equal(e->console, RIGHT_READ);
    assert_true(!e->site && !e->power && !e->trace && !e->control && !e->restart && !e->flows);
    assert_int_equal(m.env[2].console, RIGHT_WRITE);
}

static void test_what_is_missing(void **state) {
    (void)state;
    assert_null(parse(ENV));
    assert_int_equal(m.address, 0x0a00020f);
    assert_int_equal(m.prefix, 24);
    assert_int_equal(m.gateway, 0x0a000202);
}

static void test_mistakes(void **state) {
    static const struct {
        const char *text, *wrong;
    } mistakes[] = {
        {"", "no environment"},
        {"# nothing\n", "no environment"},
        {"environment a", "a line begins with env, net or memory"},
        {"memory ask=somebody", "ask= needs furthest, largest or nobody"},
        {"memory deadline=60001", "memory takes ask=furthest|largest|nobody and deadline=MILLISECONDS"},
        {"net address=10.0.0.1", "net takes address=IP/PREFIX and gateway=IP"},
        {"net address=10.0.0.1/33", "net takes address=IP/PREFIX and gateway=IP"},
        {"net address=10.0.0.256/8", "net takes address=IP/PREFIX and gateway=IP"},
        {"net address=10.0.0/8", "net takes address=IP/PREFIX and gateway=IP"},
        {"net gateway=10.0.0.1/8", "net takes address=IP/PREFIX and gateway=IP"},
        {"net mtu=1500", "net takes address=IP/PREFIX and gateway=IP"},
        {"env", "an environment needs a name of 1 to 15 characters"},
        {"env sixteen-letters-", "an environment needs a name of 1 to 15 characters"},
        {ENV "\n" ENV, "a second environment has this name"},
        {ENV " what", "unknown option"},
        {ENV " restart=1", "unknown option"},
        {"env a pages=10 slices=0:1", "program=, pages= and slices= are needed"},
        {"env a program=a slices=0:1", "program=, pages= and slices= are needed"},
        {"env a program=a pages=0 slices=0:1", "program=, pages= and slices= are needed"},
        {"env a program=a pages=10", "program=, pages= and slices= are needed"},
        {"env a program=", "program= needs a file name"},
        {"env a pages=x", "pages= needs a number"},
        {"env a pages=1x", "pages= needs a number"},
        {"env a pages=16777217", "pages= needs a number"},
        {"env a pages=99999999999999999999", "pages= needs a number"},
        {"env a limit=x", "limit= needs a number"},
        {"env a program=p pages=10 slices=0:1 limit=9", "limit= is what it may be given at most, and cannot be below pages="},
        {"env a slices=0", "slices= needs CPU:COUNT[,CPU:COUNT]"},
        {"env a slices=64:1", "slices= needs CPU:COUNT[,CPU:COUNT]"},
        {"env a slices=0:0", "slices= needs CPU:COUNT[,CPU:COUNT]"},
        {"env a slices=0:65", "slices= needs CPU:COUNT[,CPU:COUNT]"},
        {"env a slices=0:1,1:1,0:2", "slices= names a CPU twice"},
        {"env a slices=0:1,", "slices= needs CPU:COUNT[,CPU:COUNT]"},
        {"env a slices=0:1,1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1", "too many CPUs"},
        {"env a flow=ip", "flow= needs tcp:PORT, udp:PORT, arp or icmp"},
        {"env a device=1234:111", "device= needs VENDOR:DEVICE, four hexadecimal digits each"},
        {"env a device=1234:1111,", "device= needs VENDOR:DEVICE, four hexadecimal digits each"},
        {"env a device=123G:1111", "device= needs VENDOR:DEVICE, four hexadecimal digits each"},
        {"env a device=0000:0001 device=0000:0001 device=0000:0001 device=0000:0001 device=0000:0001", "too many devices"},
        {"env a flow=arps", "flow= needs tcp:PORT, udp:PORT, arp or icmp"},
        {"env a flow=tcp:", PORTS},
        {"env a flow=tcp:0", PORTS},
        {"env a flow=udp:65536", PORTS},
        {"env a flow=udp:7x", PORTS},
        {"env a flow=udp:7-", PORTS},
        {"env a flow=udp:7-7", PORTS},
        {"env a flow=udp:8-7", PORTS},
        {"env a flow=udp:7-65536", PORTS},
        {"env a flow=udp:7-8-9", PORTS},
        {"env a flow=arp:7-8", "flow= needs tcp:PORT, udp:PORT, arp or icmp"},
        {"env a flow=tcp:1 flow=tcp:2 flow=tcp:3 flow=tcp:4 flow=tcp:5 flow=tcp:6 flow=tcp:7 "
         "flow=tcp:8 flow=arp",
         "too many flows"},
        {"env a console=yes", "console= needs read, write or both"},
        {"env a arg=", "the arguments are too long"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        const char *wrong = parse(mistakes[i].text);
        if (!wrong || strcmp(wrong, mistakes[i].wrong) != 0)
            fail_msg("'%s' gives '%s'", mistakes[i].text, wrong ? wrong : "(nothing)");
    }
    parse(ENV "\n\n# x\nenv");
    assert_int_equal(line, 4);
}

static void test_bounds(void **state) {
    char text[8192] = "";
    size_t used = 0;

    (void)state;
    for (int i = 0; i < 32; i++)
        used += (size_t)sprintf(text + used, "env e%d program=a pages=1 slices=0:1\n", i);
    assert_null(parse(text));
    sprintf(text + used, "env last program=a pages=1 slices=0:1\n");
    assert_string_equal(parse(text), "too many environments");

    for (size_t length = 250; length < 260; length++) {
        used = (size_t)sprintf(text, ENV " arg=");
        memset(text + used, 'x', length);
        text[used + length] = 0;
        assert_int_equal(!parse(text), length <= 255);
        strcat(text, " arg=y");
        assert_int_equal(!parse(text), length <= 253);
    }
    for (size_t length = 60; length < 70; length++) {
        used = (size_t)sprintf(text, "env a pages=1 slices=0:1 program=");
        memset(text + used, 'x', length);
        text[used + length] = 0;
        assert_int_equal(!parse(text), length <= 63);
    }
}

/* Every beginning of a good manifest, and every one with a byte changed, is parsed or refused. */
static void test_damaged(void **state) {
    static const char good[] =
        "net address=1.2.3.4/8\n" ENV " flow=tcp:80 arg=x console=both slices=1:2,3:4\n";
    char text[sizeof good];

    (void)state;
    for (size_t at = 0; at < sizeof good - 1; at++) {
        memcpy(text, good, at);
        text[at] = 0;
        parse(text);
        for (int byte = 1; byte < 256; byte++) {
            memcpy(text, good, sizeof good);
            text[at] = (char)byte;
            parse(text);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_words), cmocka_unit_test(test_what_is_missing),
        cmocka_unit_test(test_mistakes),  cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
