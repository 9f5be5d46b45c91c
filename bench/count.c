/* A QEMU plugin that counts the guest's instructions. A string instruction counts once an
 * element, as under -icount. The total is added up by translated block, so what follows a fault
 * in its block is counted too; with places=on each instruction is counted by itself, exactly.
 * The counts lie in a file that is mapped, so another program reads them at any moment while the
 * machine runs (tools/targe/bench_machine.py):
 *
 *     u64 total; u64 marked; u64 zero[6];
 *     struct { u64 pc; u64 page_and_size; u64 code; u64 count; } place[PLACES];
 *
 * Build: gcc -O2 -shared -fPIC -o count.so count.c
 * Use:   qemu-system-x86_64 -plugin count.so,to=FILE[,places=on][,mark=ADDRESS] ...
 *
 * A place is an instruction: its address, the page of memory that it lies in (as QEMU has it; two programs at
 * the same address are in different pages) with the instruction's length in the low bits, and its first
 * 8 bytes. Places that were never translated have pc 0.
 * `marked` is what the total was when the instruction at ADDRESS was first executed.
 * Distributions do not pack the plugin interface's header, so what is used of it is declared
 * here: version 1, which QEMU 4.2 to 8.2 speak. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PLACES (1u << 18)
#define PAGE 4096u

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum { ADD_U64 };
typedef void (*translated)(uint64_t id, struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translated callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *at,
                                              uint64_t n);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *at,
                                                uint64_t n);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            void (*callback)(unsigned cpu, void *), int flags,
                                            void *data);
EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv);
extern EXPORT int qemu_plugin_version;

int qemu_plugin_version = 1;

static struct counts {
    uint64_t total, marked, zero[6];
    struct {
        uint64_t pc, page_and_size, code, count;
    } place[PLACES];
} * counts;
static int with_places;
static uint64_t mark;

/* The counter of an instruction; when all are taken, the last one looked at stands for it. */
static uint64_t *place(const struct qemu_plugin_insn *insn) {
    uint64_t pc = qemu_plugin_insn_vaddr(insn), code = 0, size = qemu_plugin_insn_size(insn);
    uint64_t page = (uint64_t)qemu_plugin_insn_haddr(insn) & -(uint64_t)PAGE;
    uint32_t at = (uint32_t)((pc ^ page >> 10) % PLACES);

    memcpy(&code, qemu_plugin_insn_data(insn), size < sizeof code ? size : sizeof code);
    for (uint32_t tries = 0; tries < PLACES && counts->place[at].pc &&
                             (counts->place[at].pc != pc || counts->place[at].code != code ||
                              counts->place[at].page_and_size != (page | size));
         tries++)
        at = (at + 1) % PLACES;
    counts->place[at].page_and_size = page | size;
    counts->place[at].code = code;
    counts->place[at].pc = pc;
    return &counts->place[at].count;
}

static void on_mark(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    if (!counts->marked)
        counts->marked = counts->total;
}

static void on_translated(uint64_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    size_t n = qemu_plugin_tb_n_insns(tb);

    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &counts->total, n);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        if (mark && qemu_plugin_insn_vaddr(insn) == mark)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, 0, NULL);
        if (with_places)
            qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, place(insn), 1);
    }
}

int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv) {
    const char *file = NULL;

    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "to=", 3))
            file = argv[i] + 3;
        if (!strncmp(argv[i], "mark=", 5))
            mark = strtoull(argv[i] + 5, NULL, 0);
        with_places |= !strcmp(argv[i], "places=on");
    }
    int fd = file ? open(file, O_RDWR | O_CREAT, 0600) : -1;
    if (fd < 0 || ftruncate(fd, sizeof *counts)) {
        fprintf(stderr, "count: needs to=FILE, a file that can be written\n");
        return 1;
    }
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (counts == MAP_FAILED)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
    return 0;
}
