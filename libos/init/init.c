/* init: the first environment, and the only one that begins with capabilities. All policy starts
 * here: it reads the manifest, hands out pages, slices, flows and rights, restarts what shall be
 * restarted, and takes orders from whoever the manifest gave `control`. */
#include "base/archive.h"
#include "base/control.h"
#include "base/memory.h"
#include "base/print.h"
#include "base/wait.h"
#include "init/flows.h"
#include "init/memory.h"
#include "machine/machine.h"

#define RESTARTS 8 /* times that one environment is restarted by itself */

/* What the kernel leaves in init's context page. */
struct first_caps { struct cap machine, console, flow; };

static struct first_caps caps;
struct manifest manifest;
struct child child[MANIFEST_ENVS];
static const u8 *archive;
static struct cap archive_cap;
static struct event_ring *events;
static u64 order, order_name[2]; /* an order that waits to be carried out; 0: none */
static u32 order_from;           /* the child that gave it */

static NORETURN void fail(const char *what, const char *detail) {
    print("init: cannot go on: %s%s%s\n", what, *detail ? ": " : "", detail);
    for (;;)
        sys_machine_off(&caps.machine, POWER_FAIL);
}

/* A flow as the manifest says, split from the device's. */
static s64 make_flow(const struct manifest_flow *f, struct cap *cap) {
    struct flow_spec spec;
    s64 page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);

    if (page < 0)
        return page;
    flow_conditions(&manifest, machine_info()->mac, f, &spec);
    s64 error = sys_flow_create(&caps.flow, (u32)page, &spec, cap);
    if (error)
        sys_page_free(0, (u32)page, 1);
    return error;
}

static struct start_item *add_item(struct start *start, const char *name) {
    struct start_item *item = &start->item[start->items++];

    *item = (struct start_item){.a = 0};
    memcpy(item->name, name, strlen(name));
    return item;
}

/* A capability with these rights on what `from` names. */
static struct cap narrowed(const struct cap *from, u8 rights) {
    struct cap cap = *from;

    cap.rights = rights;
    return sys_cap_derive(from, &cap) ? (struct cap){0} : cap;
}

/* The regions of a device's memory: init stays their owner. */
static void add_device(struct start *start, u32 which) {
    const struct info *info = machine_info();
    u32 found = 0;

    for (const struct device *d = info->device; d < info->device + info->devices; d++) {
        if (((u32)d->vendor << 16 | d->device) != which || start->items == START_ITEMS - 1)
            continue;
        struct start_item *item = add_item(start, "device");
        item->cap = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .name = d->first, .count = d->pages};
        if (sys_cap_derive(0, &item->cap))
            item->cap = (struct cap){0};
        item->a = which;
        item->b = d->bar;
        found++;
    }
    if (!found)
        print("init: there is no device %04x:%04x with memory to give\n", which >> 16, which & 0xffff);
}

static s64 fill_start(struct start *start, const struct manifest_env *e, struct child *c) {
    memset(start, 0, sizeof *start);
    memcpy(start->arguments, e->arguments, sizeof e->arguments);
    struct start_item *net = add_item(start, "net");
    net->a = (u64)manifest.address << 32 | manifest.gateway;
    net->b = manifest.prefix;
    for (u32 i = 0; i < e->flows; i++) {
        if (!c->flow[i].type) {
            s64 error = make_flow(&e->flow[i], &c->flow[i]);
            if (error)
                return error;
        }
        struct start_item *item = add_item(start, "flow");
        item->cap = narrowed(&c->flow[i], RIGHT_READ | RIGHT_WRITE);
        item->a = e->flow[i].protocol;
        item->b = e->flow[i].port | (u64)(e->flow[i].last - e->flow[i].port) << 32;
    }
    if (e->console)
        add_item(start, "console")->cap = narrowed(&caps.console, e->console);
    if (e->power || e->trace)
        add_item(start, "machine")->cap =
            narrowed(&caps.machine, (e->power ? RIGHT_POWER : 0) | (e->trace ? RIGHT_TRACE : 0));
    add_item(start, "control")->a = rt_self();
    for (u32 i = 0; i < e->devices; i++)
        add_device(start, e->device[i]);
    if (e->site) {
        struct start_item *item = add_item(start, "archive");
        item->cap = archive_cap;
        item->a = machine_info()->archive_bytes;
    }
    return 0;
}

static s64 start_child(u32 i) {
    static struct start start;
    const struct manifest_env *e = &manifest.env[i];
    struct archive_member member;

    if (!archive_find(archive, machine_info()->archive_bytes, e->program, &member)) {
        print("init: %s: no program %s in the archive\n", e->name, e->program);
        return E_BAD_ARGUMENT;
    }
    s64 error = fill_start(&start, e, &child[i]);
    u32 slices = 0;
    u64 cpus = 0;
    for (u32 n = 0; n < e->slice_kinds; n++) {
        slices += e->slices[n].count;
        cpus |= 1ull << e->slices[n].cpu;
    }
    struct spawn s = {.name = e->name, .image = member.data, .image_bytes = member.size,
                      .page_limit = e->pages, .slice_limit = slices, .cpus = cpus, .start = &start,
                      .slices = e->slices, .slice_kinds = e->slice_kinds};
    s64 env = error ? error : spawn(&s);
    if (env < 0) {
        print("init: %s cannot be started: %s\n", e->name, error_name(env));
        return env;
    }
    child[i].env = env;
    child[i].cap = s.env;
    return 0;
}

static bool is_started(u32 env) {
    for (u32 i = 0; i < manifest.envs; i++)
        if (child[i].env == env)
            return true;
    return false;
}

/* An environment that init has not started and is the creator of: whoever made it is gone. 0: there is none. */
static u32 find_orphan(void) {
    u32 steps = 0;

    for (u32 name = machine_info()->first_env; name && steps++ < machine_info()->pages;) {
        const struct env *e = machine_env(name);
        if (!e)
            return 0; /* the list changes while it is read: it is looked at again when this one has ended */
        if (e->creator == rt_self() && !is_started(name))
            return name;
        name = e->next;
    }
    return 0;
}

/* Nobody outlives who made it, down to the last of its line: children of an orphan become orphans here. */
static void end_orphans(void) {
    struct cap cap = {.type = CAP_ENV, .rights = RIGHT_OWN, .count = 1};

    while ((cap.name = find_orphan())) {
        machine_forget();
        s64 error = sys_cap_derive(0, &cap);
        if (!error)
            error = rt_destroy(&cap);
        print("init: orphan %x ended%s%s\n", cap.name, error ? ": " : "", error ? error_name(error) : "");
        if (error)
            break;
    }
    machine_forget();
}

static void end_child(u32 i) {
    s64 error = rt_destroy(&child[i].cap);

    if (error)
        print("init: %s cannot be destroyed: %s\n", manifest.env[i].name, error_name(error));
    child[i].env = 0;
    end_orphans();
}

static void ended(const struct event *event) {
    static const char *const reason[] = {"", "stopped by itself", "fault", "overran its slices"};

    for (u32 i = 0; i < manifest.envs; i++) {
        if (child[i].env != event->env)
            continue;
        print("init: %s ended: %s, 0x%lx\n", manifest.env[i].name, reason[event->a & 3], event->b);
        end_child(i);
        if (manifest.env[i].restart && child[i].restarts++ < RESTARTS)
            start_child(i);
        return;
    }
}

static void take_events(void) {
    u64 produced;

    while ((produced = __atomic_load_n(&events->produced, __ATOMIC_ACQUIRE)) != events->consumed) {
        struct event event = events->event[events->consumed % EVENTS];
        events->consumed++;
        if (event.type == EVENT_ENDED)
            ended(&event);
    }
}

/* ---------------------------------------------------------------- orders */

/* The child that calls, if it may give this order; MANIFEST_ENVS: it may not. */
static u32 allowed(u32 caller, u64 what) {
    for (u32 i = 0; i < manifest.envs; i++)
        if (child[i].env == caller && (what == CONTROL_MEMORY || manifest.env[i].control))
            return i;
    return MANIFEST_ENVS;
}

/* Runs on the transfer stack, in the caller's time; the main program sleeps. So it only takes the order down. */
static void on_transfer(u32 caller, u32 kind, struct rt_message *m) {
    u32 from = allowed(caller, m->rdi);
    u64 result = 0;

    if (from == MANIFEST_ENVS || kind != TRANSFER_CALL)
        result = (u64)E_NO_RIGHT;
    else if (order)
        result = (u64)E_BUSY;
    else if (m->rdi < CONTROL_KILL || m->rdi > CONTROL_MEMORY)
        result = (u64)E_BAD_ARGUMENT;
    if (!result) {
        order_from = from;
        order_name[0] = m->rsi;
        order_name[1] = m->rdx;
        order = m->rdi;
    }
    *m = (struct rt_message){.rdi = result};
}

static void carry_out(void) {
    for (u32 i = 0; order && i < manifest.envs; i++) {
        if (order == CONTROL_MEMORY || strncmp(manifest.env[i].name, (const char *)order_name, sizeof order_name))
            continue;
        if (order == CONTROL_KILL && child[i].env) {
            end_child(i);
            print("init: %s was killed\n", manifest.env[i].name);
        } else if (order == CONTROL_START && !child[i].env) {
            child[i].restarts = 0;
            if (!start_child(i))
                print("init: %s was started\n", manifest.env[i].name);
        }
    }
    if (order == CONTROL_MEMORY)
        memory_want(order_from, (u32)order_name[0]);
    order = 0;
}

/* ---------------------------------------------------------------- start */

static void read_manifest(void) {
    struct archive_member member;
    u32 line;

    if (!archive_find(archive, machine_info()->archive_bytes, "manifest", &member))
        fail("there is no manifest in the boot archive", "");
    const char *wrong = manifest_parse((const char *)member.data, member.size, &manifest, &line);
    if (wrong) {
        print("manifest:%u: %s\n", line, wrong);
        fail("the manifest is broken", "");
    }
}

int main(void) {
    memcpy(&caps, rt_context(0)->message, sizeof caps);
    print_to(&caps.console);
    const struct info *info = machine_info();
    archive = memory_map(info->archive, info->archive_pages, 0, 0);
    archive_cap = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ, .name = info->archive, .count = info->archive_pages};
    s64 error = sys_cap_derive(0, &archive_cap);
    u32 page;
    events = memory_alloc_run(1, &page);
    if (!archive || !events || error)
        fail("cannot map the boot archive", error_name(error));
    read_manifest();
    sys_event_bind(0, page);
    end_orphans(); /* there is none yet: now init has the tables that it needs to look, and takes no page for it later */
    for (u32 i = 0; i < manifest.envs; i++)
        start_child(i);
    for (;;) {
        u64 seen = deliveries();
        take_events();
        carry_out();
        u64 again = memory_step();
        rt_on_transfer(on_transfer); /* from here to the end of the sleep nothing is under way */
        if (!order)
            wait_for_more(seen, again);
        rt_on_transfer(NULL);
    }
}
