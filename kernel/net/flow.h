/* Flows: shares of the network device, each with what may be received and what may be sent
 * (docs/filters.md). Everything here is guarded by one lock (LOCK_NET), as is the device. */
#pragma once
#include "lib/base.h"

/* At boot, when page_declare can be called: makes the flow that all others are split from. It
 * belongs to the kernel and lets everything through. `key` is random. Returns its page. */
u32 flow_init(u64 key);

/* For env_destroy, no lock above LOCK_ENV held. First, until it returns true: takes out, some at
 * a time, the bindings whose rings `env` owns, in flows of others too. */
bool flow_unbind_all(u32 env);
/* Unbinds the flow in this page if its ring or a buffer is being taken: whose ring it was, or 0. If it is a page of
 * its handler's, takes that out. */
u32 flow_break(u32 page);
/* Unbinds a flow whose ring `env` owns: 0, or E_NO_RIGHT when it is not so. */
s64 flow_take(u32 flow, u32 env);
/* A FLOW page has changed hands; both owners' locks are held. */
void flow_give(u32 flow, struct env *from, struct env *to);
/* Then, for each FLOW page that it owns: children go to the parent, and the page is DATA again. */
void flow_release(u32 env, u32 page);

/* Takes frames that an interrupt left in the device for lack of time. Called before a CPU halts: true says that some
 * environment may have something to do. */
bool flow_poll(void);
/* At each timer interrupt: the same, and flow_reclaim(). */
void flow_tick(void);
/* Unpins the pages that the device has read. LOCK_ENV may be held. */
void flow_reclaim(void);

/* For the checker: holds the flows against each other and the page array, prints the first
 * contradiction and returns how many there are. Tells `held` of each binding and pin of a page. */
u32 flow_check(void (*held)(u32 page, bool pin));

/* ---- handlers (handler.c); the lock is held */
/* Binds a program and its memory to a flow that the caller has bound. The caller's lock is held too. */
s64 handler_attach(struct flow *flow, const struct handler_binding *binding);
void handler_detach(struct flow *flow);
/* Whether a page of the program or of its memory is being taken. */
bool handler_is_taken(const struct flow *flow);
/* Runs the flow's handler on a frame. True: the frame is dealt with. */
bool handler_run(struct flow *flow, const u8 *frame, u32 length, u32 checked);
/* For handlers (flow.c): queues the frame that a run asked for, checked here; its headers are in net_device_room(). */
struct code_effects;
bool flow_answer(struct flow *flow, const u8 *headers, struct code_effects *effects);
/* Binds pages that must be DATA and the caller's, all or none: those of a list, or without one (NULL) those from the first on. */
s64 flow_hold(const u32 *page, u32 first, u32 count);

/* ---- the classifier (classify.c); the lock is held. The filters that it knows are disjoint, so
 * at most one flow wants a frame. */
void classify_init(u64 key, u32 flows); /* at boot: at most so many will be bound */
/* Whether the filter is disjoint from all that it knows: 0, E_CONFLICT and a flow that it is not
 * disjoint from, or E_FULL: that would take too long to say. */
s64 classify_conflict(const struct flow *flow, const struct masked *filter, u32 *conflict);
s64 classify_add(struct flow *flow); /* 0 or E_FULL */
void classify_remove(struct flow *flow);
/* NULL: nobody wants it. The first 64 bytes of a frame can be read, however short it is, and 8 bytes
 * beyond its end: its buffer is larger. What they are does not matter. */
struct flow *flow_classify(const u8 *frame, u32 length);
