/* Flows: splitting, binding, delivery and sending (docs/filters.md).
 *
 * A flow lives in its FLOW page, which everybody may read, and so holds no secret. One lock guards
 * all flows, the classifier and the device. A call reads what the caller wrote once, checks the
 * copy, and only then acts; capabilities are looked at with the lock held, so that a flow that
 * was found stays until the call is over.
 *
 * Splitting and binding also hold the caller's environment's lock, under which alone pages change
 * hands. A page to be sent is pinned first and checked for authority afterwards: pinned it cannot
 * be freed and come into other hands, so what was true then stays true. */
#include "net/flow.h"

#include "code/code.h"
#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/event.h"
#include "core/info.h"
#include "core/lock.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/repossess.h"
#include "core/revoke.h"
#include "core/schedule.h"
#include "core/trace.h"
#include "core/user.h"
#include "dev/dev.h"
#include "net/filter.h"
#include "targe/call_table.h"
#include "x86/io.h"

#define FRAME_LONGEST 1514
#define BUFFER_SIZE 2048
#define BATCH 32         /* frames received with the lock held */
#define UNBIND_AT_ONCE 32 /* flows unbound in one piece of flow_unbind_all */
#define SEND_AT_ONCE 32  /* most frames in one call */
#define FLOWS_LEAST 1024 /* that there can be in a small machine, and in a large one */
#define FLOWS_MOST 16384

static struct lock net_lock = LOCK("net", LOCK_NET);
static u32 root_page;
static u32 flow_count, flows_max; /* so that a walk over all flows is bounded */

static void lock_with_caller(void) {
    env_lock(current_env());
    spin_lock(&net_lock);
}

static void unlock_with_caller(void) {
    spin_unlock(&net_lock);
    env_unlock(current_env());
}

static struct flow *flow_of(u32 page) { return page_ptr(page); }

/* The next flow of the list, or the first after NULL; NULL at its end. */
static struct flow *flow_next(const struct flow *flow) {
    u32 page = flow ? flow->next : info->first_flow;
    return page ? flow_of(page) : NULL;
}

static s64 flow_from(u64 user, u8 rights, struct flow **out) {
    u32 page;
    s64 error = cap_object(user, CAP_FLOW, rights, PAGE_FLOW, &page);
    if (!error)
        *out = flow_of(page);
    return error;
}

/* ---- making and ending flows */
static void flow_start(struct flow *f, u32 page, u32 owner, u32 parent) {
    memset(f, 0, sizeof(*f));
    f->self = page;
    f->owner = owner;
    f->parent = parent;
}

static void flow_link(struct flow *f) {
    f->next = info->first_flow;
    if (f->next)
        flow_of(f->next)->prev = f->self;
    info->first_flow = f->self;
    flow_count++;
    if (f->owner)
        env_of(f->owner)->flows++;
    if (f->parent)
        flow_of(f->parent)->children++;
}

static void flow_unlink(struct flow *f) {
    if (f->prev)
        flow_of(f->prev)->next = f->next;
    else
        info->first_flow = f->next;
    if (f->next)
        flow_of(f->next)->prev = f->prev;
    flow_count--;
    env_of(f->owner)->flows--;
    flow_of(f->parent)->children--;
}

static s64 flow_make(u64 user_parent, u32 page, const struct masked *receive, const struct masked *transmit, u64 out) {
    struct flow *parent;
    struct page *p = page_get(page);
    u32 self = current_env()->self;
    u64 generation = page_new_generation();

    TRY(flow_from(user_parent, RIGHT_OWN, &parent));
    if (!p || page_owner(p) != self)
        return E_NO_RIGHT;
    if (!filter_implies(receive, &parent->receive) || !filter_implies(transmit, &parent->transmit))
        return E_NOT_IMPLIED;
    if (flow_count == flows_max)
        return E_FULL;
    if (out && user_writable(out, sizeof(struct cap)))
        return E_BAD_ADDRESS;
    TRY(page_retype(page, self, PAGE_DATA, PAGE_FLOW, 0));
    __atomic_store_n(&p->generation, generation, __ATOMIC_SEQ_CST);
    struct flow *f = flow_of(page);
    flow_start(f, page, self, parent->self);
    f->receive = *receive;
    f->transmit = *transmit;
    f->line = parent->parent ? parent->line : *receive;
    flow_link(f);
    /* Should the caller have unmapped `out` meanwhile on another CPU, it can still derive the capability. */
    return cap_grant(out, CAP_FLOW, RIGHT_READ | RIGHT_WRITE | RIGHT_OWN, page, 1, generation);
}

s64 call_flow_create(u64 parent, u32 page, u64 spec, u64 out) {
    struct flow_spec s;
    struct masked receive, transmit;

    TRY(user_read(&s, spec, sizeof(s)));
    TRY(filter_normalize(&s.receive, &receive));
    TRY(filter_normalize(&s.transmit, &transmit));
    lock_with_caller();
    s64 error = flow_make(parent, page, &receive, &transmit, out);
    unlock_with_caller();
    return error;
}

/* ---- binding */
s64 flow_hold(const u32 *page, u32 first, u32 count) {
    for (u32 held = 0; held < count; held++) {
        u32 name = page ? page[held] : first + held;
        struct page *p = page_get(name);
        s64 error = p && page_owner(p) == current_env()->self ? page_bind(name, PAGE_DATA) : E_NO_RIGHT;
        if (error) {
            page_unbind_all(page, first, held);
            return error;
        }
    }
    return 0;
}

/* All pages of a binding, or none. */
static s64 hold_all(u32 ring, const u32 *page, u32 count) {
    TRY(page_use(ring, current_env()->self, PAGE_RING, UINT32_MAX));
    s64 error = flow_hold(page, 0, count);
    if (error)
        page_end_use(ring, PAGE_RING, PAGE_DATA);
    return error;
}

static void let_all_go(u32 ring, const u32 *page, u32 count) {
    page_unbind_all(page, 0, count);
    page_end_use(ring, PAGE_RING, PAGE_DATA);
}

static s64 bind(u64 user_flow, struct flow_binding *b, const struct masked *filter, const u32 *page) {
    struct flow *f;

    TRY(flow_from(user_flow, RIGHT_READ, &f));
    if (f->bound)
        return E_BUSY;
    /* A filter cannot lie: it stays within its flow, and takes from nobody. */
    TRY(filter_implies(filter, &f->receive) ? classify_conflict(f, filter, &b->conflict) : E_NOT_IMPLIED);
    TRY(hold_all(b->ring, page, b->count));
    f->filter = *filter;
    s64 error = classify_add(f);
    if (error) {
        let_all_go(b->ring, page, b->count);
        memset(&f->filter, 0, sizeof(f->filter));
        return error;
    }
    struct ring *ring = page_ptr(b->ring);
    __atomic_store_n(&ring->filled, 0, __ATOMIC_RELEASE);
    memcpy(f->page, page, b->count * sizeof(u32));
    f->buffers = b->count;
    f->ring = b->ring;
    f->receiver = current_env()->self;
    f->entries = b->entries;
    f->filled = 0;
    f->bound = 1;
    return 0;
}

s64 call_flow_bind(u64 flow, u64 binding) {
    struct flow_binding b;
    struct masked filter;
    u32 page[RING_PAGES];

    TRY(user_read(&b, binding, sizeof(b)));
    if (!b.count || b.count > RING_PAGES || !b.entries || b.entries > RING_ENTRIES ||
        (b.entries & (b.entries - 1)) || b.zero)
        return E_BAD_ARGUMENT;
    TRY(filter_normalize(&b.filter, &filter));
    TRY(user_read(page, b.pages, b.count * sizeof(u32)));
    lock_with_caller();
    s64 error = bind(flow, &b, &filter, page);
    unlock_with_caller();
    if (error == E_CONFLICT) /* if it is not writable, the caller does without the name */
        user_write(binding + offsetof(struct flow_binding, conflict), &b.conflict, sizeof(b.conflict));
    return error;
}

static void unbind(struct flow *f) {
    classify_remove(f);
    if (f->handler)
        handler_detach(f);
    f->bound = 0;
    let_all_go(f->ring, f->page, f->buffers);
    memset(&f->filter, 0, sizeof(f->filter));
    memset(f->page, 0, sizeof(f->page));
    f->buffers = f->ring = f->receiver = f->entries = 0;
}

/* A flow that its own receiver unbinds counts towards what it is asked for. */
static void give_back(const struct flow *f) {
    if (f->bound && page_owner(page_get(f->ring)) == current_env()->self)
        revoke_given(current_env(), RESOURCE_FLOWS, 1);
}

s64 call_flow_unbind(u64 flow) {
    struct flow *f;

    lock_with_caller();
    s64 error = flow_from(flow, RIGHT_READ, &f);
    if (!error && !f->bound)
        error = E_WRONG_TYPE;
    if (!error) {
        give_back(f);
        unbind(f);
    }
    unlock_with_caller();
    return error;
}

static s64 bind_handler(u64 user_flow, const struct handler_binding *b) {
    struct flow *f;

    TRY(flow_from(user_flow, RIGHT_READ | RIGHT_WRITE, &f));
    if (!f->bound)
        return E_WRONG_TYPE;
    if (page_owner(page_get(f->ring)) != current_env()->self)
        return E_NO_RIGHT;
    if (b->code)
        return handler_attach(f, b);
    if (!f->handler)
        return E_WRONG_TYPE;
    handler_detach(f);
    return 0;
}

s64 call_handler_bind(u64 flow, u64 handler) {
    struct handler_binding b;

    TRY(user_read(&b, handler, sizeof(b)));
    if (b.pages > HANDLER_PAGES || b.zero || b.zero2[0] || b.zero2[1] || (!b.code && (b.memory || b.pages)))
        return E_BAD_ARGUMENT;
    lock_with_caller();
    s64 error = bind_handler(flow, &b);
    unlock_with_caller();
    return error;
}

/* Ends a flow, if no more than so many mappings of its page are left. */
static s64 flow_end(struct flow *f, u32 mappings) {
    u32 page = f->self, owner = f->owner;
    struct page *p = page_get(page);

    /* As a KERNEL page nobody can map it, let alone write to it, while it is taken down. */
    TRY(page_retype(page, owner, PAGE_FLOW, PAGE_KERNEL, mappings));
    if (f->bound)
        unbind(f);
    if (f->children)
        for (struct flow *child = flow_next(NULL); child; child = flow_next(child))
            if (child->parent == page) {
                child->parent = f->parent; /* whose conditions it implies as well */
                flow_of(f->parent)->children++;
            }
    flow_unlink(f);
    memset(f, 0, sizeof(*f));
    __atomic_store_n(&p->generation, page_new_generation(), __ATOMIC_SEQ_CST);
    /* One who was about to map it may have bound it, but will look again at what it is. */
    CHECK(page_retype(page, owner, PAGE_KERNEL, PAGE_DATA, UINT32_MAX) == 0);
    return 0;
}

/* Ends a flow whose owner's lock is held, as env_destroy holds it when it comes to the flow itself. While somebody
 * still looks at its page it goes on, but is mapped by nobody anew: AGAIN. */
static s64 destroy_owned(u64 user, u32 page, const struct env *owner) {
    struct flow *f;

    TRY(flow_from(user, RIGHT_OWN, &f));
    if (f->self != page || f->owner != owner->self || owner->state != ENV_LIVE || f->children)
        return E_BUSY;
    TRY(page_take_begin(page));
    if (STATE_BINDINGS(page_state(page_get(page))))
        return E_AGAIN;
    give_back(f);
    s64 error = flow_end(f, 0);
    page_take_end(page, NULL, NULL);
    return error;
}

/* The ring may be the caller's. */
static s64 destroy(u64 user, u32 page, struct env *owner, struct env *caller) {
    env_lock_two(owner, caller);
    spin_lock(&net_lock);
    s64 error = destroy_owned(user, page, owner);
    spin_unlock(&net_lock);
    env_unlock_two(owner, caller);
    return error;
}

s64 call_flow_destroy(u64 flow) {
    u32 page;
    struct env *caller = current_env();

    TRY(cap_object(flow, CAP_FLOW, RIGHT_OWN, PAGE_FLOW, &page));
    u32 name = page_owner(page_get(page));
    struct env *owner = name ? env_live(name) : NULL;
    if (!owner)
        return name ? E_BUSY : E_NO_RIGHT; /* the first flow is the kernel's, and stays */
    s64 error = destroy(flow, page, owner, caller);
    if (error == E_AGAIN) {
        repossess_last_mapping(page);
        error = destroy(flow, page, owner, caller);
    }
    if (error == E_AGAIN)
        repossess_sweep(&caller->sweep, NULL);
    return error;
}

/* ---- delivery */
/* Puts a frame, which is no longer than a buffer, into the flow's next posted one. The ring is its libOS's memory: each word of it
 * is read once and may be anything. What counts is in the flow. */
static bool deposit(struct flow *f, const u8 *frame, u32 length, u32 checked) {
    struct ring *ring = page_ptr(f->ring);
    ASSERT(length <= BUFFER_SIZE);
    struct ring_entry *entry = &ring->entry[f->filled & (f->entries - 1)];
    u64 posted = __atomic_load_n(&ring->posted, __ATOMIC_ACQUIRE) - f->filled;

    if (!posted) {
        f->dropped_full++;
        return false;
    }
    u32 buffer = __atomic_load_n(&entry->buffer, __ATOMIC_RELAXED);
    if (posted > f->entries || buffer / 2 >= f->buffers) {
        f->dropped_bad++;
        return false;
    }
    memcpy((u8 *)page_ptr(f->page[buffer / 2]) + buffer % 2 * BUFFER_SIZE, frame, length);
    entry->length = (u16)length;
    entry->flags = checked;
    f->filled++;
    /* Before event_delivered looks who sleeps: that CPU looks the other way round. */
    __atomic_store_n(&ring->filled, f->filled, __ATOMIC_SEQ_CST);
    return true;
}

static NOINLINE void deliver(const u8 *frame, u32 length, u32 checked) {
    struct trace *counters = this_cpu()->trace;
    struct flow *f = flow_classify(frame, length);

    trace(TRACE_PACKET, length, f ? f->self : 0);
    counters->packets++;
    if (!f) {
        counters->unclaimed++;
    } else if (f->handler && handler_run(f, frame, length, checked)) {
        f->received += length;
    } else if (deposit(f, frame, length, checked)) {
        f->received += length;
        event_delivered(env_of(f->receiver)); /* as long as it is bound */
    }
}

/* ---- sending */
/* What is pinned for the frames that the device has, by their numbers. */
static struct sending {
    u32 page[SEND_PIECES];
    u32 pieces;
} sending[NET_FRAMES];
static u32 pinning; /* frames that pin pages */

static void sent(u32 frame) {
    struct sending *s = &sending[frame];

    if (!s->pieces)
        return;
    while (s->pieces)
        page_unpin(s->page[--s->pieces]);
    pinning--;
}

/* What pins no page is let lie until there are some, and then nobody has to know. */
static void reclaim(void) { net_device_reclaim(pinning, pinning ? sent : NULL); }

static s64 may_read(const struct piece *piece, const struct page *p) {
    u32 owner;

    if (likely(!piece->cap))
        return page_owner(p) == current_env()->self ? 0 : E_NO_RIGHT;
    return cap_pages(piece->cap, piece->page, 1, RIGHT_READ, &owner);
}

/* Pins the page of a piece, if the caller may have it read; for who may not it is not held for a moment. A handler's
 * is bound: it may. */
static s64 pin(const struct piece *piece, bool bound) {
    const struct page *p = page_get(piece->page);
    s64 error = !p ? E_BAD_ARGUMENT : bound ? 0 : may_read(piece, p);

    if (!error)
        error = page_pin(piece->page);
    if (error)
        return error == E_WRONG_TYPE ? E_NO_RIGHT : error;
    error = bound ? 0 : may_read(piece, p); /* now it stays so */
    if (error)
        page_unpin(piece->page);
    return error;
}

/* The pages of all pieces, or none. */
static s64 pin_all(const struct send *s, bool bound) {
    for (u32 i = 0; i < s->pieces; i++) {
        s64 error = pin(&s->piece[i], bound);
        while (error && i)
            page_unpin(s->piece[--i].page);
        TRY(error);
    }
    return 0;
}

static inline u32 sum_at(const struct send *s) { return (u32)s->checksum_start + s->checksum_offset; }

/* What can be said of a frame without looking at its memory. */
static inline s64 check_form(const struct send *s, u32 *total) {
    if (s->length < 14 || s->length > SEND_HEADERS || s->pieces > SEND_PIECES || s->zero)
        return E_BAD_ARGUMENT;
    *total = s->length;
    for (u32 i = 0; i < s->pieces; i++) {
        const struct piece *p = &s->piece[i];
        if (!p->length || p->offset + (u32)p->length > PAGE_SIZE)
            return E_BAD_ARGUMENT;
        *total += p->length;
    }
    if (sum_at(s) && (!info->checksum || sum_at(s) + 2 > s->length))
        return E_BAD_ARGUMENT;
    return *total > FRAME_LONGEST ? E_BAD_ARGUMENT : 0;
}

/* Queues a frame of good form whose headers are where the device reads them, of which it does not know yet. Nobody forges a
 * source: the headers satisfy the flow's condition, and the sum that the device stores in them is not among the bytes that
 * the condition looks at. */
static ALWAYS_INLINE s64 queue(struct flow *f, const struct send *s, const u8 *headers, u32 total, bool bound) {
    if (!filter_match(&f->transmit, headers, s->length, sum_at(s))) {
        f->refused++;
        return E_FORGED;
    }
    if (s->pieces)
        TRY(pin_all(s, bound));
    struct sending *to = &sending[net_device_send(s->length, s->piece, s->pieces, s->checksum_start, s->checksum_offset)];
    if (s->pieces) {
        pinning++;
        for (; to->pieces < s->pieces; to->pieces++)
            to->page[to->pieces] = s->piece[to->pieces].page;
    }
    f->sent++;
    f->sent_bytes += total;
    return 0;
}

static s64 send_one(struct flow *f, u64 user) {
    struct send s;
    struct net_room *room = net_device_room();
    u32 total;

    TRY(user_read(&s, user, sizeof(s)));
    TRY(check_form(&s, &total));
    if (!room)
        return net_device_pairs ? E_FULL : E_NO_DEVICE;
    room->binding = 0;
    TRY(user_read(room->headers, s.headers, s.length));
    return queue(f, &s, room->headers, total, false);
}

/* The part of a handler's frame that lies in its memory. */
static NOINLINE void attach(const struct flow *f, struct code_effects *e) {
    u64 at = e->attached_at, left = e->attached;
    for (struct piece *p = e->frame.piece; left; p++, e->frame.pieces++) {
        *p = (struct piece){.page = f->memory + (u32)(at / PAGE_SIZE), .offset = at % PAGE_SIZE};
        p->length = (u16)min_u64(left, PAGE_SIZE - p->offset);
        at += p->length;
        left -= p->length;
    }
}

bool flow_answer(struct flow *f, const u8 *headers, struct code_effects *e) {
    u32 total;

    if (e->attached)
        attach(f, e);
    /* The device is told when the batch is over. */
    return !check_form(&e->frame, &total) && !queue(f, &e->frame, headers, total, true);
}

s64 call_flow_send(u64 flow, u64 frames, u32 count) {
    struct flow *f;
    u32 done = 0;

    if (!count || count > SEND_AT_ONCE)
        return E_BAD_ARGUMENT;
    spin_lock(&net_lock);
    s64 error = flow_from(flow, RIGHT_WRITE, &f);
    if (!error)
        reclaim();
    while (!error && done < count) {
        error = send_one(f, frames + done * sizeof(struct send));
        done += !error;
    }
    if (done)
        net_device_kick();
    spin_unlock(&net_lock);
    return done ? done : error;
}

/* ---- the device */
/* Takes some of what has arrived, with the lock held so shortly that other CPUs get it in between. True: there is more. */
static OFTEN NOINLINE bool serve_batch(void) {
    spin_lock(&net_lock);
    reclaim();
    bool more = net_device_receive(BATCH, deliver);
    spin_unlock(&net_lock);
    return more;
}

static void renew_span(struct cpu *cpu, u64 now) {
    if (now - cpu->span < cpu->slices->length)
        return;
    cpu->span = now;
    cpu->spent = 0;
}

/* While somebody runs. It may take half of each span of his time, and no more however fast frames come: then they wait for the
 * span's end, and the device drops what it has no buffers for. Nobody pays for that half: he is given it back. */
static NOINLINE bool serve_busy(struct cpu *cpu) {
    u64 half = cpu->slices->length / 2, begun = rdtsc(), took;
    bool more;

    renew_span(cpu, begun);
    do {
        more = serve_batch();
        took = rdtsc() - begun;
    } while (more && cpu->spent + took < half);
    schedule_lend(took, NEVER);
    cpu->spent += took;
    cpu->trace->put_off += cpu->spent >= half;
    return cpu->spent >= half;
}

/* Takes what has arrived. An idle CPU does not look at the clock, but after each batch whether somebody can run. What is left comes
 * when it has found nobody, or at the end of the span. */
static OFTEN void serve(u32 unused) {
    struct cpu *cpu = this_cpu();

    cpu->left = unlikely(cpu->context) ? serve_busy(cpu) : serve_batch();
    if (unlikely(cpu->left)) {
        renew_span(cpu, rdtsc());
        net_device_hush();
        schedule_lend(0, cpu->span + cpu->slices->length);
    }
}

void flow_reclaim(void) {
    spin_lock(&net_lock);
    net_device_reclaim_all(sent);
    spin_unlock(&net_lock);
}

bool flow_poll(void) {
    struct cpu *cpu = this_cpu();

    if (!cpu->left || (cpu->context && rdtsc() - cpu->span < cpu->slices->length))
        return false;
    serve(0);
    return true;
}

void flow_tick(void) {
    if (__atomic_load_n(&pinning, __ATOMIC_RELAXED))
        flow_reclaim();
    flow_poll();
}

u32 flow_init(u64 key) {
    struct flow *root = boot_pages(1);

    root_page = page_of_phys(ptr_phys(root));
    page_declare(root_page, PAGE_FLOW, 0);
    flow_start(root, root_page, 0, 0);
    flow_link(root);
    flows_max = (u32)min_u64(FLOWS_MOST, page_count / 8 > FLOWS_LEAST ? page_count / 8 : FLOWS_LEAST);
    classify_init(key, flows_max);
    net_device_interrupt = serve;
    return root_page;
}

/* ---- the end of an environment */
bool flow_unbind_all(u32 env) {
    u32 unbound = 0;

    spin_lock(&net_lock);
    net_device_reclaim_all(sent); /* lets go of pages that the device has read */
    for (struct flow *f = flow_next(NULL); f && unbound < UNBIND_AT_ONCE; f = flow_next(f))
        if (f->bound && page_owner(page_get(f->ring)) == env) {
            unbind(f);
            unbound++;
        }
    spin_unlock(&net_lock);
    return unbound < UNBIND_AT_ONCE;
}

static bool uses_taken(const struct flow *f) {
    return f->bound && (page_is_taken(f->ring) || page_any_taken(f->page, 0, f->buffers));
}

u32 flow_break(u32 page) {
    u32 owner = 0;

    spin_lock(&net_lock);
    if (page_type(page_get(page)) == PAGE_FLOW && uses_taken(flow_of(page))) {
        owner = page_owner(page_get(flow_of(page)->ring));
        unbind(flow_of(page));
    } else if (page_type(page_get(page)) == PAGE_FLOW && handler_is_taken(flow_of(page))) {
        handler_detach(flow_of(page));
    }
    spin_unlock(&net_lock);
    return owner;
}

s64 flow_take(u32 name, u32 env) {
    s64 error = E_NO_RIGHT;
    struct page *p = page_get(name);

    spin_lock(&net_lock);
    if (p && page_type(p) == PAGE_FLOW && flow_of(name)->bound && page_owner(page_get(flow_of(name)->ring)) == env) {
        unbind(flow_of(name));
        error = 0;
    }
    spin_unlock(&net_lock);
    return error;
}

void flow_give(u32 flow, struct env *from, struct env *to) {
    spin_lock(&net_lock);
    flow_of(flow)->owner = to->self;
    from->flows--;
    to->flows++;
    spin_unlock(&net_lock);
}

void flow_release(u32 env, u32 page) {
    spin_lock(&net_lock);
    struct flow *f = flow_of(page);
    CHECK(f->self == page && f->owner == env);
    CHECK(flow_end(f, UINT32_MAX) == 0);
    spin_unlock(&net_lock);
}

/* ---- the checker */
static u32 contradictions;

static void expect(bool holds, const struct flow *f, const char *what) {
    if (!holds && !contradictions++)
        print("check: flow %x: %s\n", f->self, what);
}

static void check_bound(const struct flow *f, void (*held)(u32 page, bool pin)) {
    const struct page *ring = page_get(f->ring);

    expect(ring && page_type(ring) == PAGE_RING, f, "its ring is no RING page");
    expect(filter_implies(&f->filter, &f->receive), f, "its filter goes beyond it");
    held(f->ring, false);
    for (u32 i = 0; i < f->buffers; i++)
        held(f->page[i], false);
    if (f->handler)
        held(f->handler, false);
    for (u32 i = 0; i < f->memory_pages; i++)
        held(f->memory + i, false);
}

static void check_flow(const struct flow *f, void (*held)(u32 page, bool pin)) {
    const struct page *p = page_get(f->self);

    expect(p && page_type(p) == PAGE_FLOW, f, "its page is no FLOW page");
    expect(p && page_owner(p) == f->owner, f, "its owner is not the page's");
    expect(!f->next || flow_of(f->next)->prev == f->self, f, "the list is broken");
    expect(f->parent || f->self == root_page, f, "it has no parent");
    if (f->bound)
        check_bound(f, held);
}

u32 flow_check(void (*held)(u32 page, bool pin)) {
    u32 flows = 0, children = 0;

    spin_lock(&net_lock);
    contradictions = 0;
    for (struct flow *f = flow_next(NULL); f; f = flow_next(f)) {
        flows++;
        children += f->children;
        check_flow(f, held);
    }
    expect(flows == flow_count && children == flows - 1, flow_of(root_page), "flows are missing");
    for (u32 i = 0; i < NET_FRAMES; i++)
        for (u32 k = 0; k < sending[i].pieces; k++)
            held(sending[i].page[k], true);
    u32 found = contradictions;
    spin_unlock(&net_lock);
    return found;
}
