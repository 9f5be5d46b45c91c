/* What a test tells its handler (puppet.c) to do, at the start of the memory that they share. Also read by
 * clang for the virtual machine: only u64 and u8. */
enum {
    PUPPET_COPY = 1,      /* part of the packet to memory, and its sum to `sum` */
    PUPPET_SEND = 2,      /* the answer, of `length` bytes, `attached` of them in memory */
    PUPPET_PUBLISH = 4,   /* `value` at `at` */
    PUPPET_EVENT = 8,     /* an event with a 1, b the packet's length */
    PUPPET_WAKE = 16,
    PUPPET_LOOP = 32,     /* for ever */
    PUPPET_WRITE = 64,    /* a byte of memory at `at`, wherever that is */
    PUPPET_READ = 128,    /* a byte of the packet at `at` to `sum` */
    PUPPET_CONTEXT = 256, /* what can be seen of the context: lengths and numbers */
    PUPPET_SCRIBBLE = 512, /* over its own orders */
    PUPPET_SHOW = 1024,    /* what it finds where its answer goes, to `room`, before all else */
};
struct puppet_orders {
    u64 orders, result;        /* bits; what it returns */
    u64 runs;                  /* it counts, by itself */
    u64 from, to, size, sum;   /* COPY */
    u64 length, attach_at, attached; /* SEND */
    u64 at, value;
    u64 seen[6];               /* CONTEXT: lengths of packet, memory, answer; checked; time; spins of LOOP */
    u64 sum_start, sum_offset; /* SEND: the device is to sum */
    u64 pad[12];
    u8 answer[256];
    u8 room[512];
};
