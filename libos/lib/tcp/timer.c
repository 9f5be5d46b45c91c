/* Deadlines: a wheel of slots, in each the connections to be looked at in those milliseconds.
 *
 * A connection is in one slot at most. Its deadlines come and go with each segment, the slot does
 * not: when it comes, the connection is looked at and put where its first deadline then is. So a
 * busy connection is looked at once in a timeout, and an idle one costs nothing. */
#include "tcp/internal.h"
#include <string.h>

#define TICK 8 /* ms in a slot */
#define WHEEL 512 /* slots */

static struct tcp *slot[WHEEL];
static u64 used[WHEEL / 64]; /* which slots are not empty */
static u64 next_tick;        /* all before it have been looked at */
static u64 next_ms;          /* nothing to do before; ~0: nothing at all */

void timer_init(void) {
    memset(slot, 0, sizeof slot);
    memset(used, 0, sizeof used);
    next_tick = tcp_global.now_ms / TICK;
    next_ms = ~0ull;
}

void timer_stop(struct tcp *t) {
    if (!t->timer_link)
        return;
    *t->timer_link = t->timer_next;
    if (t->timer_next)
        t->timer_next->timer_link = t->timer_link;
    t->timer_link = NULL;
}

static void insert(struct tcp *t, u32 at) {
    s32 wait = seq_diff(at, tcp_global.now);
    u64 tick = (tcp_global.now_ms + (u32)(wait > 0 ? wait : 0)) / TICK + 1;

    if (tick < next_tick)
        tick = next_tick;
    if (tick > next_tick + WHEEL - 2)
        tick = next_tick + WHEEL - 2; /* it will be put in again from there, and not in the same slot */
    struct tcp **head = &slot[tick % WHEEL];
    t->timer_at = at;
    t->timer_next = *head;
    t->timer_link = head;
    if (*head)
        (*head)->timer_link = &t->timer_next;
    *head = t;
    used[tick % WHEEL / 64] |= 1ull << tick % 64;
    if (tick * TICK < next_ms)
        next_ms = tick * TICK;
}

void timer_by(struct tcp *t, u32 at) {
    if (t->timer_link && seq_diff(t->timer_at, at) <= 0)
        return;
    timer_stop(t);
    insert(t, at);
}

void timer_measured(struct tcp *t, u32 ms) {
    if (!t->srtt) {
        t->srtt = ms * 8 + 1;
        t->rttvar = ms * 2;
    } else {
        s32 error = (s32)ms - (s32)(t->srtt / 8);
        t->srtt += (u32)error;
        t->rttvar += (u32)((error < 0 ? -error : error) - (s32)(t->rttvar / 4));
    }
    u32 rto = t->srtt / 8 + (t->rttvar > TICK ? t->rttvar : TICK);
    t->rto = rto < RTO_LEAST ? RTO_LEAST : rto < RTO_MOST ? rto : RTO_MOST;
}

/* ---- what is due */

static bool due(u32 at) { return at && seq_diff(tcp_global.now, at) >= 0; }

static void back_off(struct tcp *t) {
    t->rto = t->rto * 2 < RTO_MOST ? t->rto * 2 : RTO_MOST;
    t->retries++;
    t->timing = false; /* an answer now could be to either sending (Karn) */
    t->resend_at = deadline(t->rto);
}

static void resend(struct tcp *t) {
    if (t->retries >= (t->state == TCP_SYN_RECEIVED ? SYN_RETRIES : RETRIES)) {
        tcp_release(t);
        return;
    }
    if (t->state == TCP_SYN_RECEIVED) {
        back_off(t);
        output_syn(t);
    } else if (t->snd_una != t->snd_max && t->snd_wnd) {
        congestion_timeout(t);
        back_off(t);
        tcp_set_dirty(t);
    } else { /* the window is closed */
        u8 retries = t->retries;
        back_off(t);
        if (t->user)
            t->retries = retries; /* for as long as its user waits */
        output_probe(t);
    }
}

static void look(struct tcp *t) {
    if (due(t->end_at)) {
        if (t->state != TCP_TIME_WAIT)
            output_reset(t);
        tcp_release(t);
        return;
    }
    if (due(t->ack_at)) {
        t->ack_at = 0;
        if (t->ack_later)
            t->ack_now = true;
        tcp_set_dirty(t);
    }
    if (due(t->resend_at)) {
        t->resend_at = 0;
        resend(t);
        if (t->state == TCP_FREE)
            return;
    }
    const u32 at[] = {t->resend_at, t->ack_at, t->end_at};
    for (u32 i = 0; i < sizeof at / sizeof at[0]; i++)
        if (at[i])
            timer_by(t, at[i]);
}

/* The slots of one tick. What is put in meanwhile goes into later ones. */
static void turn(u64 tick) {
    struct tcp *t, **head = &slot[tick % WHEEL];

    next_tick = tick + 1;
    used[tick % WHEEL / 64] &= ~(1ull << tick % 64);
    while ((t = *head)) {
        timer_stop(t);
        look(t);
    }
}

/* The first tick from next_tick on whose slot is not empty. */
static void seek_next(void) {
    for (u64 tick = next_tick; tick < next_tick + WHEEL; tick = (tick / 64 + 1) * 64) {
        u64 word = used[tick % WHEEL / 64] >> tick % 64;
        if (word) {
            next_ms = (tick + (u32)__builtin_ctzll(word)) * TICK;
            return;
        }
    }
    next_ms = ~0ull;
}

u32 tcp_timers(void) {
    u64 now = tcp_global.now_ms;

    if (now >= next_ms) {
        u64 last = now / TICK, first = next_tick;
        if (last >= first + WHEEL) /* after a long pause each slot is looked at once */
            first = last + 1 - WHEEL;
        for (u64 tick = first; tick <= last; tick++)
            turn(tick);
        seek_next();
    }
    if (next_ms == ~0ull)
        return ~0u;
    return next_ms > now ? (u32)(next_ms - now) : 0;
}
