/* A QEMU plugin that counts the guest's instructions, one by one: what follows a fault in its translated
 * block is not counted. A string instruction counts once an element, as under -icount. The counts lie in
 * a file that is mapped, so another program reads them at any moment while the machine runs
 * (tools/targe/bench_machine.py):
 *
 *     u64 total; u64 marked; u64 zero[6];
 *     struct { u64 pc; u64 page_and_size; u64 code; u64 count; } place[PLACES];
 *
 * Build: gcc -O2 -shared -fPIC -o count.so count.c
 * Use:   qemu-system-x86_64 -plugin count.so,to=FILE[,places=on][,mark=ADDRESS][,gate=FD] ...
 *
 * A place is an instruction: its address, the page of memory that it lies in (as QEMU has it; two programs at
 * the same address are in different pages) with the instruction's length in the low bits, and its first
 * 8 bytes. Places that were never translated have pc 0.
 * `marked` is what the total was when the instruction at ADDRESS was first executed.
 *
 * With a gate the guest and whoever holds the socket's other end take turns (bench/lockstep.c). Before each
 * `hlt` or `mwait` the plugin writes a byte and waits for one. And QEMU's main thread, which moves frames between the
 * devices and the world, works only while the guest stands still: the guest waits after each write to a device and
 * at the gate until that thread has nothing left to do. So what the guest finds in its memory at each
 * instruction does not depend on how fast the host is. One CPU only.
 *
 * Distributions do not pack the plugin interface's header, so what is used of it is declared
 * here: version 1, which QEMU 4.2 to 8.2 speak. */
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PLACES (1u << 18)
#define PAGE 4096u

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
struct qemu_plugin_hwaddr;
enum { ADD_U64 };
enum { WRITES = 2 };
typedef void (*translated)(uint64_t id, struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translated callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *at,
                                                uint64_t n);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            void (*callback)(unsigned cpu, void *), int flags,
                                            void *data);
typedef void (*accessed)(unsigned cpu, uint32_t info, uint64_t address, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, accessed callback, int flags,
                                      int which, void *data);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(uint32_t info, uint64_t address);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *address);
EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv);
extern EXPORT int qemu_plugin_version;

int qemu_plugin_version = 1;

static struct counts {
    uint64_t total, marked, zero[6];
    struct {
        uint64_t pc, page_and_size, code, count;
    } place[PLACES];
} * counts;
static bool with_places;
static uint64_t mark;
static int gate = -1, main_thread = -1;

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

/* Waits until QEMU's main thread sleeps in poll. Whoever gave it something to do, by an eventfd, a
 * socket or a tap device, has woken it before, so that it counts as running from then on. */
static void settle(void) {
    char text[32];

    for (;;) {
        ssize_t n = pread(main_thread, text, sizeof text - 1, 0);
        long call = -1;
        text[n > 0 ? n : 0] = 0;
        if (sscanf(text, "%ld", &call) == 1 && (call == SYS_ppoll
#ifdef SYS_poll
                                                || call == SYS_poll
#endif
                                                ))
            return;
        sched_yield();
    }
}

static void on_write(unsigned cpu, uint32_t info, uint64_t address, void *unused) {
    (void)cpu, (void)unused;
    /* Neither system maps devices in the lower half. */
    if (gate < 0 || !(address >> 63))
        return;
    struct qemu_plugin_hwaddr *where = qemu_plugin_get_hwaddr(info, address);
    if (where && qemu_plugin_hwaddr_is_io(where))
        settle();
}

static void on_halt(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    char byte = 'h';

    if (gate < 0)
        return;
    settle();
    if (write(gate, &byte, 1) != 1 || read(gate, &byte, 1) != 1)
        gate = -1;
    settle();
}

static bool halts(const struct qemu_plugin_insn *insn) {
    static const uint8_t mwait[] = {0x0f, 0x01, 0xc9};
    const uint8_t *code = qemu_plugin_insn_data(insn);
    size_t size = qemu_plugin_insn_size(insn);

    return (size == 1 && *code == 0xf4) || (size == 3 && !memcmp(code, mwait, size));
}

static void on_translated(uint64_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    size_t n = qemu_plugin_tb_n_insns(tb);

    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &counts->total, 1);
        if (mark && qemu_plugin_insn_vaddr(insn) == mark)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, 0, NULL);
        if (with_places)
            qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, place(insn), 1);
        if (gate >= 0) {
            qemu_plugin_register_vcpu_mem_cb(insn, on_write, 0, WRITES, NULL);
            if (halts(insn))
                qemu_plugin_register_vcpu_insn_exec_cb(insn, on_halt, 0, NULL);
        }
    }
}

/* QEMU's main thread is the process's first. */
static bool open_gate(const char *number) {
    char path[64];

    gate = atoi(number);
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)getpid());
    main_thread = open(path, O_RDONLY);
    if (main_thread < 0)
        fprintf(stderr, "count: cannot open %s\n", path);
    return main_thread >= 0;
}

int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv) {
    const char *file = NULL;

    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "to=", 3))
            file = argv[i] + 3;
        if (!strncmp(argv[i], "mark=", 5))
            mark = strtoull(argv[i] + 5, NULL, 0);
        if (!strncmp(argv[i], "gate=", 5) && !open_gate(argv[i] + 5))
            return 1;
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
