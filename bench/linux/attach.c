/*
 * attach.c - loads a BPF program of type XDP and binds it to a network device, as long as this process lives.
 *
 * Build:  musl-gcc -O2 -static -o attach attach.c
 * Run:    attach FILE DEVICE     FILE holds the program's instructions and nothing else
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From the kernel's interface (linux/bpf.h). */
enum { BPF_PROG_LOAD = 5, BPF_LINK_CREATE = 28, BPF_PROG_TYPE_XDP = 6, BPF_XDP = 37 };

static char log_text[65536];

int main(int argc, char **argv)
{
    static uint64_t code[4096];
    struct stat status;
    int file = argc == 3 ? open(argv[1], O_RDONLY) : -1;

    if (file < 0 || fstat(file, &status) || read(file, code, sizeof code) != status.st_size) {
        perror("attach: cannot read the program");
        return 1;
    }
    struct { uint32_t type, count; uint64_t code, license; uint32_t log_level, log_size; uint64_t log; uint8_t rest[80]; } load = {
        .type = BPF_PROG_TYPE_XDP, .count = status.st_size / 8, .code = (uintptr_t)code, .license = (uintptr_t)"MIT",
        .log_level = 1, .log_size = sizeof log_text, .log = (uintptr_t)log_text };
    int program = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    if (program < 0) { perror("attach: cannot load the program"); puts(log_text); return 1; }
    struct { uint32_t program, interface, attach, flags; uint8_t rest[48]; } link = {
        .program = program, .interface = if_nametoindex(argv[2]), .attach = BPF_XDP };
    if (syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof link) < 0) { perror("attach: cannot bind it"); return 1; }
    puts("attach: bound");
    fflush(stdout);
    for (;;) pause();
}
