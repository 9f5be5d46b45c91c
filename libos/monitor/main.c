/* The monitor: what happens in the machine, for whoever sits at its console, and read-only over
 * HTTP. It has what the manifest gives it: without a console it serves the network only, without a
 * TCP flow the console only.
 *
 * One loop: keys, frames, an order to init that is under way; then a sleep until any of them has
 * something new. While an order is under way keys wait in the event ring. */
#include "base/memory.h"
#include "base/print.h"
#include "base/random.h"
#include "base/start.h"
#include "base/wait.h"
#include "machine/machine.h"
#include "monitor/commands.h"
#include "monitor/line.h"
#include "monitor/serve.h"
#include "monitor/views.h"
#include "net/net.h"
#include "net/port_targe.h"

#define FRAMES_AT_ONCE 64
#define ORDER_LOOK_MS 10 /* how often the end of an order is looked for */

static char screen[VIEW_BYTES];
static struct line line = {.prompt = "targe> ", .show = print_text};
static struct event_ring *events; /* NULL: there is no console to read from */
static bool network;

void net_panic(const char *message) {
    print("monitor: %s\n", message);
    rt_exit(1);
}

/* ---- the console */

static void show_sheet(const struct sheet *s) { print_text(s->at, s->used); }

static void carry_out(const char *text) {
    struct sheet s = {.at = screen, .size = sizeof screen};

    command(&s, text);
    show_sheet(&s);
    if (!command_waits())
        line_begin(&line);
}

static void take_keys(void) {
    while (!command_waits() &&
           events->consumed != __atomic_load_n(&events->produced, __ATOMIC_ACQUIRE)) {
        struct event event = events->event[events->consumed % EVENTS];
        __atomic_store_n(&events->consumed, events->consumed + 1, __ATOMIC_RELEASE);
        if (event.type == EVENT_CONSOLE && line_key(&line, (char)event.a))
            carry_out(line.text);
    }
}

static void work_on_order(void) {
    struct sheet s = {.at = screen, .size = sizeof screen};

    command_work(&s);
    show_sheet(&s);
    if (!command_waits())
        line_begin(&line);
}

/* The console, as far as the manifest gives it. */
static void open_console(void) {
    const struct start_item *console = start_item("console", 0);
    u32 page;

    if (!console || !(console->cap.rights & RIGHT_READ))
        return;
    events = memory_alloc_run(1, &page);
    if (!events || sys_event_bind(0, page) || sys_console_bind(&console->cap)) {
        print("monitor: the console cannot be read\n");
        rt_exit(1);
    }
}

/* ---- the network */

static const struct start_item *tcp_flow(void) {
    const struct start_item *item;

    for (u32 i = 0; (item = start_item("flow", i)); i++)
        if (item->a == START_TCP)
            return item;
    return NULL;
}

static void open_network(void) {
    const struct start_item *flow = tcp_flow(), *net = start_item("net", 0);
    const struct info *info = machine_info();

    if (!flow || !net)
        return;
    struct port_targe_config device = {
        .flow = &flow->cap, .mac = info->mac, .checksum = info->checksum};
    s64 error = port_targe_open(&device);
    if (error) {
        print("monitor: cannot use the network: %s\n", error_name(error));
        return;
    }
    u32 prefix = (u32)net->b;
    struct net_config config = {.address = __builtin_bswap32((u32)(net->a >> 32)),
                                .mask = prefix ? __builtin_bswap32(~0u << (32 - prefix)) : 0,
                                .key = {random_word(), random_word()}};
    net_init(&config);
    network = serve_start((u16)flow->b);
    print(network ? "monitor: answering at port %u\n" : "monitor: no memory to listen at port %u\n",
          (u32)flow->b);
}

/* One turn; returns in how many ms the next is due, ~0: when something comes. */
static u32 network_turn(void) {
    u32 frames = net_receive(FRAMES_AT_ONCE), wait = net_timers();

    if (!net_flush() && wait > 1)
        wait = 1;
    return frames == FRAMES_AT_ONCE ? 0 : wait;
}

/* ---- */

static void on_exception(struct frame *frame) {
    if (machine_fault(frame))
        return;
    print("monitor: exception %lu at %lx, address %lx\n", frame->cause, frame->rip, frame->address);
    rt_exit(frame->cause);
}

int main(void) {
    rt_on_exception(on_exception);
    open_network();
    open_console();
    if (!events && !network) {
        print("monitor: it has neither a console nor a TCP flow\n");
        return 1;
    }
    if (events) {
        print("Type 'help' for the monitor's commands.\n");
        line_begin(&line);
    }
    for (;;) {
        u64 seen = deliveries();
        if (command_waits())
            work_on_order();
        if (events) /* after that: keys that waited for its end have come already */
            take_keys();
        u32 wait = network ? network_turn() : ~0u;
        if (command_waits() && wait > ORDER_LOOK_MS)
            wait = ORDER_LOOK_MS;
        if (wait)
            wait_for_more(seen, wait == ~0u ? NEVER : deadline_in(wait));
    }
}
