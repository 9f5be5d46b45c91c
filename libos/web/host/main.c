/* The web libOS as a Linux process on a tap device, for development and tests.
 *
 * usage: web-host [-s] TAP ADDRESS PORT ARCHIVE
 *
 * TAP is made if it does not exist (that needs rights: use a network namespace, see
 * libos/web/host/try.sh). ARCHIVE is a tar file with members site/... -s: sums are computed here
 * and not by the kernel. */
#include "net/port_tap.h"
#include "web/host/fake_machine.h"
#include "web/site.h"
#include "web/web.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void map_archive(const char *path, struct web_config *c) {
    struct stat status;
    int fd = open(path, O_RDONLY);

    if (fd < 0 || fstat(fd, &status) < 0)
        die(path);
    c->archive_bytes = (u64)status.st_size;
    c->archive = mmap(NULL, c->archive_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (c->archive == MAP_FAILED)
        die(path);
    close(fd);
    c->memory = aligned_alloc(16, (site_memory(c->archive, c->archive_bytes) + 15) / 16 * 16);
    if (!c->memory)
        die("memory");
}

static void parse_address(const char *text, struct tcp_config *c) {
    if (inet_pton(AF_INET, text, &c->address) != 1) {
        fprintf(stderr, "web-host: %s is no address\n", text);
        exit(2);
    }
}

int main(int argc, char **argv) {
    static const u8 mac[6] = {2, 0, 0, 0, 0, 2};
    struct web_config config = {0};
    bool sums = argc > 1 && strcmp(argv[1], "-s") == 0;

    argv += sums;
    if (argc - sums != 5) {
        fputs("usage: web-host [-s] TAP ADDRESS PORT ARCHIVE\n", stderr);
        return 2;
    }
    parse_address(argv[2], &config.tcp);
    config.tcp.port = (u16)atoi(argv[3]);
    map_archive(argv[4], &config);
    if (getrandom(config.tcp.key, sizeof config.tcp.key, 0) < 0)
        die("getrandom");
    fake_machine_start((u32)(config.archive_bytes / 4096));
    if (!port_tap_open(argv[1], mac, !sums))
        die(argv[1]);
    config.boot_time = (u64)time(NULL) - port_now_ms() / 1000;
    if (sums) {
        config.tcp.sums = (struct sums){config.archive, config.archive_bytes / SUM_BLOCK * SUM_BLOCK,
                                        calloc(1, sums_memory(config.archive_bytes))};
        if (!config.tcp.sums.block)
            die("memory");
    }
    web_start(&config);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    puts("web-host: serving");
    fflush(stdout);
    while (!stop) {
        u32 ms = web_turn();
        if (ms)
            port_tap_wait(ms);
    }
    return 0;
}
