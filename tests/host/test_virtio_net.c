/* The network driver against a device that obeys, and one that does not. The device is a block of
 * memory with the registers of virtio over MMIO, or over PCI with several queues; this file plays what it does to the rings. */
// sources: kernel/dev/virtio.c kernel/dev/virtio_net.c
#include "core/cpu.h"
#include "core/info.h"
#include "core/memory.h"
#include "dev/dev.h"
#include "dev/virtio.h"
#include "x86/interrupt.h"

#include <asm/prctl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define ADDRESS 0xfeb00e00

struct machine_tables tables = {.virtio_mmio = {{0xfeb00e00, 12}}, .virtio_mmios = 1};
struct info *info;
static struct info the_info;
#define CPUS 5
static struct trace traces[CPUS];
static struct cpu several[CPUS] = {{.self = &several[0], .trace = &traces[0]}};
#define counters traces[0]
struct cpu *cpus[MAX_CPUS] = {&several[0]};
u32 cpu_count = 1;

static u32 registers[128];
static struct allotted {
    u8 *at;
    u32 bytes;
} allotted[64];
static u32 allotments;
static void (*handler)(u32);

/* In the order in which the driver takes them. */
#define RX_DESCRIPTORS ((struct descriptor *)allotted[0].at)
#define RX_AVAILABLE ((struct available *)allotted[1].at)
#define RX_USED ((struct used *)allotted[2].at)
#define TX_DESCRIPTORS ((struct descriptor *)allotted[3].at)
#define TX_AVAILABLE ((struct available *)allotted[4].at)
#define TX_USED ((struct used *)allotted[5].at)

void *boot_pages(u32 count) {
    struct allotted *a = &allotted[allotments++];
    a->bytes = count * (u32)PAGE_SIZE;
    a->at = aligned_alloc(PAGE_SIZE, a->bytes);
    return memset(a->at, 0, a->bytes);
}

volatile void *map_device(phys p, u64 bytes) {
    assert_int_equal(p.v, ADDRESS);
    assert_int_equal(bytes, sizeof(registers));
    return registers;
}

/* There is no PCI, or one device, whose structures are in memory: capabilities at 0x40, 0x50, 0x60, each in a BAR. */
static bool has_pci;
static struct pci_device pci_device = {.vendor = 0x1af4, .device = 0x1041, .class = 0x020000};
static u32 configuration[64];
static u8 structure[3][64] ALIGNED(8);
static u32 entries; /* of its interrupts */
void pci_init(void) {}
const struct pci_device *pci_find(const struct pci_device *after, u16 vendor, u32 class) {
    assert_true(vendor && class);
    return has_pci && !after ? &pci_device : NULL;
}
u32 pci_read32(const struct pci_device *d, u32 offset) {
    assert_true(d == &pci_device && has_pci);
    return configuration[offset / 4];
}
u8 pci_read8(const struct pci_device *d, u32 offset) { return (u8)(pci_read32(d, offset) >> 8 * (offset % 4)); }
u32 pci_capability(const struct pci_device *d, u32 after, u8 kind) {
    assert_true(d == &pci_device && kind == PCI_CAPABILITY_VENDOR);
    return after == 0 ? 0x40 : after < 0x60 ? after + 0x10 : 0;
}
volatile void *pci_map(const struct pci_device *d, u32 bar, u64 offset, u64 bytes) {
    assert_true(d == &pci_device && bar < 3 && offset + bytes <= sizeof(structure[0]));
    return structure[bar];
}
void pci_enable(const struct pci_device *d) { assert_true(d == &pci_device); }
bool pci_msix(const struct pci_device *d, void (*h)(u32), u32 count) {
    assert_true(d == &pci_device && h);
    entries = count;
    return true;
}

u32 interrupt_vector(void (*h)(u32), u32 argument) {
    (void)argument;
    handler = h;
    return VECTOR_DEVICE;
}
void interrupt_route(u32 gsi, u32 vector, bool level, bool active_low) {
    assert_int_equal(gsi, 12);
    assert_int_equal(vector, VECTOR_DEVICE);
    assert_false(level || active_low);
}

/* Both halves of the features read the same here: bit 0 is also VERSION_1. */
enum { BASIC = 1 << 0 | 1 << 1 | 1 << 5, INDIRECT = 1 << 28, EVENT_INDEX = 1 << 29 };

static void free_pages(void) {
    while (allotments)
        free(allotted[--allotments].at);
}

static u32 interrupts;
static void on_interrupt(u32 unused) {
    (void)unused;
    interrupts++;
}

static void start(u32 features) {
    static const u8 mac[6] = {0x52, 0x54, 0, 1, 2, 3};
    free_pages();
    memset(registers, 0, sizeof(registers));
    registers[0x00 / 4] = 0x74726976;
    registers[0x04 / 4] = 2;
    registers[0x08 / 4] = VIRTIO_NETWORK;
    registers[0x10 / 4] = features;
    registers[0x34 / 4] = 256;
    memcpy(&registers[0x100 / 4], mac, 6);
    the_info = (struct info){0};
    info = &the_info;
    counters.nonsense = 0;
    net_device_interrupt = on_interrupt;
    net_device_init();
    assert_memory_equal(info->mac, mac, 6);
    assert_int_equal(info->checksum, 1);
    assert_int_equal(registers[0x70 / 4], 15);
}

/* ---- what the device does */
static u8 *buffer_of(u32 id) { return phys_ptr((phys){RX_DESCRIPTORS[id].address}); }

static void use(struct used *used, u32 id, u32 length) {
    used->ring[used->index % 256].id = id;
    used->ring[used->index % 256].length = length;
    used->index++;
}

static void fill(u32 id, u32 frame) {
    u8 *b = buffer_of(id);
    memset(b, 0, 12);
    for (u32 i = 0; i < frame && i < 2036; i++)
        b[12 + i] = (u8)(id + i);
    use(RX_USED, id, frame + 12);
}

/* ---- who receives */
static u32 delivered, delivered_bytes, last_length, vouched, touched;
static void deliver(const u8 *frame, u32 length, u32 checked) {
    assert_in_range(length, 14, 2036);
    for (u32 i = 0; i < length; i++)
        touched += frame[i];
    delivered++;
    delivered_bytes += length;
    last_length = length;
    vouched += checked;
}
/* How many it took, and whether there are more. */
static bool more;
static u32 receive_by(u32 budget, void (*deliver_one)(const u8 *frame, u32 length, u32 checked)) {
    u64 *nonsense = &this_cpu()->trace->nonsense, before = *nonsense;
    delivered = delivered_bytes = vouched = 0;
    more = net_device_receive(budget, deliver_one);
    u32 n = delivered + (u32)(*nonsense - before);
    assert_true(n <= budget);
    return n;
}
static u32 receive(u32 budget) { return receive_by(budget, deliver); }

static u32 finished[1024], finished_count;
static void done(u32 frame) {
    assert_true(finished_count < ARRAY_SIZE(finished));
    finished[finished_count++] = frame;
}
static void reclaim(void) {
    finished_count = 0;
    net_device_reclaim(true, done);
}

/* ---- receiving */
static void test_receive(void **state) {
    (void)state;
    start(BASIC | INDIRECT | EVENT_INDEX);
    assert_int_equal(RX_AVAILABLE->index, 256);
    for (u32 i = 0; i < 256; i++) {
        assert_int_equal(RX_DESCRIPTORS[i].flags, DESCRIPTOR_WRITE);
        assert_int_equal(RX_DESCRIPTORS[i].length, 2048);
    }
    assert_int_equal(receive(64), 0);
    fill(3, 60);
    buffer_of(3)[0] = 2;
    fill(7, 1514);
    buffer_of(7)[0] = 0xfc;
    assert_int_equal(receive(64), 2);
    assert_int_equal(delivered_bytes, 1574);
    assert_int_equal(vouched, RING_CHECKED);
    assert_int_equal(RX_AVAILABLE->index, 258);
    assert_int_equal(RX_AVAILABLE->ring[0], 3);
    assert_int_equal(RX_AVAILABLE->ring[1], 7);
    for (u8 flags = 1; flags <= 3; flags += 2) {
        fill(flags, 60);
        buffer_of(flags)[0] = flags;
        assert_int_equal(receive(64), 1);
        assert_int_equal(vouched, RING_CHECKED | RING_PARTIAL);
    }
}

static void test_budget(void **state) {
    (void)state;
    for (int event = 0; event < 2; event++) {
        start(BASIC | (event ? EVENT_INDEX : 0));
        for (u32 i = 0; i < 100; i++)
            fill(i, 100);
        assert_int_equal(receive(64), 64);
        assert_true(more);
        net_device_hush();
        if (event)
            assert_int_equal(RX_AVAILABLE->ring[256], 63); /* off: it has been passed */
        else
            assert_int_equal(RX_AVAILABLE->flags, 1);
        assert_int_equal(receive(64), 36);
        assert_false(more);
        if (event)
            assert_int_equal(RX_AVAILABLE->ring[256], 100); /* the next one interrupts */
        else
            assert_int_equal(RX_AVAILABLE->flags, 0);
    }
}

static void deliver_and_fill(const u8 *frame, u32 length, u32 checked) {
    deliver(frame, length, checked);
    if (delivered < 300)
        fill(delivered % 256, 100);
}
static void test_frames_that_come_meanwhile(void **state) {
    (void)state;
    start(BASIC | EVENT_INDEX);
    fill(0, 100);
    for (u32 i = 0; i < 300; i++) {
        assert_int_equal(receive_by(1000, deliver_and_fill), 1);
        assert_true(more); /* it came before the asking: this look finds it */
    }
    assert_int_equal(receive(1000), 1);
    assert_false(more);
}

static void test_lengths_that_cannot_be(void **state) {
    (void)state;
    static const u32 lengths[] = {0, 1, 11, 12, 25, 2049, 4096, 0x80000000, ~0u};
    start(BASIC);
    for (u32 i = 0; i < ARRAY_SIZE(lengths); i++)
        use(RX_USED, i, lengths[i]);
    fill(20, 14);
    fill(21, 2036);
    assert_int_equal(receive(64), ARRAY_SIZE(lengths) + 2);
    assert_int_equal(delivered, 2);
    assert_int_equal(last_length, 2036);
    assert_int_equal(counters.nonsense, ARRAY_SIZE(lengths));
    /* All are given back. */
    assert_int_equal(RX_AVAILABLE->index, (u16)(256 + ARRAY_SIZE(lengths) + 2));
}

static void test_buffers_that_are_not(void **state) {
    (void)state;
    start(BASIC);
    use(RX_USED, 256, 100);
    use(RX_USED, 0x10003, 100);
    use(RX_USED, ~0u, 100);
    fill(5, 100);
    assert_int_equal(receive(64), 4);
    assert_int_equal(delivered, 1);
    assert_int_equal(counters.nonsense, 3);
}

static void test_index_that_runs_away(void **state) {
    (void)state;
    for (u32 jump = 257; jump < 65536; jump = jump * 3 + 1) {
        start(BASIC);
        RX_USED->index = (u16)jump;
        TX_USED->index = (u16)jump;
        for (u32 i = 0; i < 10; i++)
            receive(64);
        reclaim();
        assert_int_equal(finished_count, 0);
    }
}

static void test_interrupt(void **state) {
    (void)state;
    start(BASIC);
    registers[0x60 / 4] = 3;
    interrupts = 0;
    handler(0);
    assert_int_equal(interrupts, 1);
    assert_int_equal(registers[0x64 / 4], 3);
}

/* ---- sending */
static const u8 headers[SEND_HEADERS] = "destination source and so on";

static s64 send_frame(u32 length, const struct piece *piece, u32 pieces) {
    struct net_room *room = net_device_room();
    if (!room)
        return E_FULL;
    memcpy(room->headers, headers, length);
    return net_device_send(length, piece, pieces, 0, 0);
}

static void expect_chain(u32 n, u32 header_length, u32 pieces_sent, bool indirect) {
    u32 head = TX_AVAILABLE->ring[n];
    const struct descriptor *d = &TX_DESCRIPTORS[head], *base = TX_DESCRIPTORS;
    if (indirect) {
        assert_int_equal(d->flags, DESCRIPTOR_INDIRECT);
        assert_int_equal(d->length, 16 * (1 + pieces_sent));
        d = base = phys_ptr((phys){d->address});
    }
    assert_int_equal(d->length, 12 + header_length);
    assert_memory_equal((u8 *)phys_ptr((phys){d->address}) + 12, headers, header_length);
    for (u32 i = 0; i < pieces_sent; i++) {
        assert_int_equal(d->flags, DESCRIPTOR_NEXT);
        d = &base[d->next];
        assert_int_equal(d->address, 0x1000 * (i + 1) + 5 * i);
        assert_int_equal(d->length, 10 + i);
    }
    assert_int_equal(d->flags, 0);
}

static void test_send(void **state) {
    (void)state;
    const struct piece pieces[] = {{1, 0, 10, 0}, {2, 5, 11, 0}, {3, 10, 12, 0}, {4, 15, 13, 0}};
    for (int indirect = 0; indirect < 2; indirect++) {
        start(BASIC | (indirect ? INDIRECT : 0));
        u32 room = indirect ? 256 : 51, number[256];
        bool number_seen[256] = {false};
        for (u32 i = 0; i < room; i++) {
            s64 frame = send_frame(14 + i % 179, pieces, i % 5);
            assert_in_range(frame, 0, 255);
            assert_true(indirect || frame % 5 == 0);
            assert_false(number_seen[frame]);
            number_seen[frame] = true;
            number[i] = (u32)frame;
            expect_chain(i, 14 + i % 179, i % 5, indirect && i % 5);
        }
        assert_null(net_device_room());
        reclaim();
        assert_int_equal(finished_count, 0);
        for (u32 i = room; i-- > 0;)
            use(TX_USED, TX_AVAILABLE->ring[i], 0);
        reclaim();
        assert_int_equal(finished_count, room);
        for (u32 i = 0; i < room; i++)
            assert_int_equal(finished[i], number[room - 1 - i]);
        assert_non_null(net_device_room());
        send_frame(14, NULL, 0);
    }
}

static void test_checksum(void **state) {
    (void)state;
    start(BASIC | INDIRECT);
    memcpy(net_device_room()->headers, headers, 54);
    net_device_send(54, NULL, 0, 34, 16);
    expect_chain(0, 54, 0, false);
    const u16 *h = phys_ptr((phys){TX_DESCRIPTORS[TX_AVAILABLE->ring[0]].address});
    assert_int_equal(h[0], 1);
    assert_int_equal(h[3], 34);
    assert_int_equal(h[4], 16);
}

/* Nobody is interrupted for what was sent; by the event index once when that has gone round. */
static void test_no_interrupt_for_sending(void **state) {
    (void)state;
    for (u32 event = 0; event < 2; event++) {
        u32 passed = 0;
        start(BASIC | INDIRECT | (event ? EVENT_INDEX : 0));
        for (u32 i = 0; i < 70000; i++) {
            u16 before = TX_USED->index;
            send_frame(14, NULL, 0);
            use(TX_USED, TX_AVAILABLE->ring[before % 256], 0);
            u16 wanted = TX_AVAILABLE->ring[256];
            if (event)
                passed += (u16)(TX_USED->index - wanted - 1) < (u16)(TX_USED->index - before);
            else
                assert_int_equal(TX_AVAILABLE->flags, 1);
            reclaim();
            assert_int_equal(finished_count, 1);
        }
        assert_int_equal(passed, event);
    }
}

static void test_kick(void **state) {
    (void)state;
    start(BASIC);
    registers[0x50 / 4] = 77;
    net_device_kick(); /* nothing new */
    assert_int_equal(registers[0x50 / 4], 77);
    send_frame(14, NULL, 0);
    net_device_kick();
    assert_int_equal(registers[0x50 / 4], 1);
    registers[0x50 / 4] = 77;
    TX_USED->flags = 1; /* the device is looking anyway */
    send_frame(14, NULL, 0);
    net_device_kick();
    assert_int_equal(registers[0x50 / 4], 77);
}

/* With the event index, the device says behind its ring which frame it wants to be told of. */
static void test_kick_by_event(void **state) {
    (void)state;
    start(BASIC | INDIRECT | EVENT_INDEX);
    u16 *event = (u16 *)&TX_USED->ring[256];
    static const struct {
        u32 frames, event;
        bool kick;
    } steps[] = {{1, 0, true}, {1, 0, false}, {2, 3, true},
                 {3, 8, false}, {3, 8, true}, {1, 11, false}};
    for (u32 i = 0; i < ARRAY_SIZE(steps); i++) {
        for (u32 k = 0; k < steps[i].frames; k++)
            send_frame(14, NULL, 0);
        *event = (u16)steps[i].event;
        registers[0x50 / 4] = 77;
        net_device_kick();
        assert_int_equal(registers[0x50 / 4], steps[i].kick ? 1 : 77);
    }
}

static void test_frames_that_were_not_sent(void **state) {
    (void)state;
    for (int indirect = 0; indirect < 2; indirect++) {
        start(BASIC | (indirect ? INDIRECT : 0));
        s64 frame = send_frame(14, NULL, 0);
        u32 id = TX_AVAILABLE->ring[0];
        use(TX_USED, id + 1, 0); /* nothing, or the middle of the frame's chain */
        reclaim();
        assert_int_equal(finished_count, 0);
        use(TX_USED, id, 0);
        use(TX_USED, id, 0); /* a second time */
        use(TX_USED, 255, 0);
        use(TX_USED, ~0u, 0);
        reclaim();
        assert_int_equal(finished_count, 1);
        assert_int_equal(finished[0], frame);
        assert_int_equal(counters.nonsense, 4);
    }
}

/* A device that writes anything into its rings, while frames are sent: no frame is reported twice
 * and none that was not sent. */
static void test_random_device(void **state) {
    (void)state;
    static bool flying[NET_FRAMES];
    srandom(1);
    for (u32 features = 0; features < 4; features++) {
        start(BASIC | (features & 1 ? INDIRECT : 0) | (features & 2 ? EVENT_INDEX : 0));
        memset(flying, 0, sizeof(flying));
        for (u32 round = 0; round < 5000; round++) {
            for (u32 i = (u32)random() % 20; i; i--) {
                u32 r = (u32)random();
                ((u8 *)TX_USED)[r % 2048] = (u8)(r >> 24);
                ((u8 *)RX_USED)[r % 2048] = (u8)(r >> 24);
                if (r & 4)
                    use(TX_USED, (u32)random() % 260, 0);
                if (r & 8)
                    use(RX_USED, (u32)random() % 260, (u32)random() % 2060);
            }
            s64 frame = send_frame(60, NULL, 0);
            assert_false(frame >= 0 && flying[frame]);
            if (frame >= 0)
                flying[frame] = true;
            net_device_kick();
            receive(64);
            reclaim();
            for (u32 i = 0; i < finished_count; i++) {
                assert_true(flying[finished[i]]);
                flying[finished[i]] = false;
            }
        }
    }
}

/* ---- several pairs of queues, over PCI */
#define PAIRS 4
/* Of pair n, in the order in which the driver takes them. */
#define OF(n, what) allotted[8 * (n) + (what)].at
#define USED_OF(n, sends) ((struct used *)OF(n, (sends) ? 5 : 2))
#define AVAILABLE_OF(n, sends) ((struct available *)OF(n, (sends) ? 4 : 1))
#define BUFFERS_OF(n) OF(n, 7)

static void run_on(u32 n) { assert_int_equal(syscall(SYS_arch_prctl, ARCH_SET_GS, &several[n]), 0); }

/* What the device says when it is asked to use so many pairs. */
static u8 says;
static void *answer_control(void *unused) {
    volatile struct available *asked = NULL;
    while (!asked || asked->index != 1)
        if (__atomic_load_n(&allotments, __ATOMIC_ACQUIRE) == 8 * PAIRS + 4)
            asked = (void *)OF(PAIRS, 1);
    OF(PAIRS, 3)[4] = says;
    struct used *used = (struct used *)OF(PAIRS, 2);
    used->ring[0].length = 1;
    __atomic_store_n(&used->index, 1, __ATOMIC_RELEASE);
    return unused;
}

static void start_pairs(u8 answer) {
    static const u8 kinds[] = {1, 2, 4};
    pthread_t device;
    free_pages();
    memset(structure, 0, sizeof(structure));
    memset(traces, 0, sizeof(traces));
    for (u32 n = 0; n < CPUS; n++) {
        several[n] = (struct cpu){.self = &several[n], .number = n, .trace = &traces[n]};
        cpus[n] = &several[n];
    }
    for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
        configuration[0x10 + 4 * i] = (u32)kinds[i] << 24;
        configuration[0x11 + 4 * i] = i;  /* BAR */
        configuration[0x12 + 4 * i] = 0;  /* offset */
        configuration[0x13 + 4 * i] = 64; /* bytes */
    }
    *(u32 *)(structure[0] + 4) = BASIC | 1 << 17 | 1 << 22 | INDIRECT | EVENT_INDEX;
    *(u16 *)(structure[0] + 24) = 256;
    *(u16 *)(structure[2] + 8) = PAIRS;
    the_info = (struct info){0};
    info = &the_info;
    has_pci = true;
    cpu_count = CPUS;
    says = answer;
    run_on(0);
    assert_int_equal(pthread_create(&device, NULL, answer_control, NULL), 0);
    net_device_init();
    pthread_join(device, NULL);
    assert_int_equal(entries, PAIRS);
}

static void end_pairs(void) {
    has_pci = false;
    cpu_count = 1;
    run_on(0);
}

static void fill_of(u32 pair, u32 id, u32 length) {
    memset(BUFFERS_OF(pair) + id % 256 * 2048, 0, 2048);
    use(USED_OF(pair, false), id, length);
}

static u32 receiving; /* the pair whose turn it is */
static void deliver_own(const u8 *frame, u32 length, u32 checked) {
    const u8 *first = BUFFERS_OF(receiving);
    assert_true(frame > first && frame + length <= first + 256 * 2048);
    deliver(frame, length, checked);
}

/* Each CPU has its own: what cannot be in one pair's rings is counted by its CPU, and no other pair is disturbed. */
static void test_pairs(void **state) {
    (void)state;
    static const u32 lengths[] = {0, 11, 25, 2049, 65536, 0x80000000, ~0u};
    start_pairs(0);
    assert_int_equal(net_device_pairs, PAIRS);
    for (u32 bad = 0; bad < PAIRS; bad++) {
        memset(traces, 0, sizeof(traces));
        for (u32 i = 0; i < ARRAY_SIZE(lengths); i++)
            fill_of(bad, i, lengths[i]);
        fill_of(bad, 256, 60);
        fill_of(bad, ~0u, 60);
        for (u32 n = 0; n < PAIRS; n++)
            fill_of(n, 100 + bad, 12 + 60 + n);
        for (u32 n = 0; n < CPUS; n++) {
            run_on(n);
            receiving = n;
            assert_int_equal(receive_by(64, deliver_own), n == PAIRS ? 0 : n == bad ? ARRAY_SIZE(lengths) + 3 : 1);
            assert_int_equal(delivered, n < PAIRS);
            assert_true(n == PAIRS || last_length == 60 + n);
            assert_int_equal(traces[n].nonsense, n == bad ? ARRAY_SIZE(lengths) + 2 : 0);
            assert_false(more);
        }
    }
    for (u32 n = 0; n < CPUS; n++) { /* the one that has no pair sends by the first */
        run_on(n);
        s64 frame = send_frame(14, NULL, 0);
        assert_int_equal(frame / QUEUE_SIZE, n % PAIRS);
        net_device_kick();
        assert_int_equal(AVAILABLE_OF(n % PAIRS, true)->index, n == PAIRS ? 2 : 1);
    }
    end_pairs();
}

/* A device that says no to several: one is used, and the others' rings are never looked at. */
static void test_pairs_refused(void **state) {
    (void)state;
    start_pairs(1);
    assert_int_equal(net_device_pairs, 1);
    for (u32 n = 0; n < PAIRS; n++)
        fill_of(n, 5, 100);
    for (u32 n = 0; n < CPUS; n++) {
        run_on(n);
        receiving = 0;
        assert_int_equal(receive_by(64, deliver_own), n == 0);
        assert_int_equal(send_frame(14, NULL, 0) / QUEUE_SIZE, 0);
    }
    end_pairs();
}

/* As test_random_device, on all pairs at once: frames that a pair was given are reported once and for no other pair. */
static void test_random_pairs(void **state) {
    (void)state;
    static bool flying[NET_FRAMES];
    start_pairs(0);
    memset(flying, 0, sizeof(flying));
    srandom(2);
    for (u32 round = 0; round < 8000; round++) {
        for (u32 i = (u32)random() % 20; i; i--) {
            u32 r = (u32)random(), n = r % PAIRS;
            ((u8 *)USED_OF(n, r & 4))[r / 16 % 2048] = (u8)(r >> 24);
            if (r & 8)
                use(USED_OF(n, r & 4), (u32)random() % 260, (u32)random() % 2060);
        }
        u32 n = (u32)random() % CPUS;
        run_on(n);
        s64 frame = send_frame(60, NULL, 0);
        if (frame >= 0) {
            assert_int_equal(frame / QUEUE_SIZE, n % PAIRS);
            assert_false(flying[frame]);
            flying[frame] = true;
        }
        net_device_kick();
        receiving = n;
        assert_in_range(receive_by(64, deliver_own), 0, n < PAIRS ? 64 : 0);
        finished_count = 0;
        if (round % 3)
            net_device_reclaim(true, done);
        else
            net_device_reclaim_all(done);
        for (u32 i = 0; i < finished_count; i++) {
            assert_true(flying[finished[i]]);
            assert_true(round % 3 == 0 || finished[i] / QUEUE_SIZE == n % PAIRS);
            flying[finished[i]] = false;
        }
    }
    for (u32 n = 0; n < PAIRS; n++)
        assert_true(traces[n].nonsense > 100);
    end_pairs();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_receive),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_frames_that_come_meanwhile),
        cmocka_unit_test(test_lengths_that_cannot_be),
        cmocka_unit_test(test_buffers_that_are_not),
        cmocka_unit_test(test_index_that_runs_away),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_no_interrupt_for_sending),
        cmocka_unit_test(test_kick),
        cmocka_unit_test(test_kick_by_event),
        cmocka_unit_test(test_frames_that_were_not_sent),
        cmocka_unit_test(test_random_device),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_pairs_refused),
        cmocka_unit_test(test_random_pairs),
    };
    if (syscall(SYS_arch_prctl, ARCH_SET_GS, &several[0]))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free_pages();
    return failed;
}
