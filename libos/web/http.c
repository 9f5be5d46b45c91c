/* HTTP connections, see http.h.
 *
 * Input is worked on where it lies. `advance` takes whole requests off its front, and answers each
 * before it looks at the next; it stops when a head is incomplete or an answer does not fit into
 * the stream yet. What is left then moves into an input buffer. A request whose answer could
 * not even begin for want of memory is left in the input and parsed again later, so that there
 * is no half-made answer to remember.
 *
 * A connection is on the list of its phase, in the order of `since`; each phase has one time
 * limit, so the first of the list is the first to exceed it. */
#include "web/http.h"
#include "web/answer.h"
#include "web/http_date.h"
#include "web/http_known.h"
#include "web/http_request.h"
#include <string.h>

#define STARVED_MS 10 /* between looks whether there is memory again */

static struct http pool[HTTP_CONNECTIONS];
static char inputs[HTTP_INPUTS][HTTP_INPUT_SIZE];
static char *free_input[HTTP_INPUTS];
static u32 free_inputs;
static struct http_link lists[HTTP_PHASES];
static const u32 limit_ms[HTTP_PHASES] = {
    [HTTP_FIRST] = HTTP_FIRST_MS, [HTTP_READING] = HTTP_HEAD_MS, [HTTP_IDLE] = HTTP_IDLE_MS,
    [HTTP_SENDING] = HTTP_SEND_MS, [HTTP_LINGER] = HTTP_LINGER_MS};
static u64 now;
static u32 starving;
static struct block {
    u32 users;
    char text[HTTP_BLOCK_SIZE];
} blocks[HTTP_BLOCKS];
static u32 next_block;
static u32 blocks_used; /* queued by all connections, and not yet forgotten by them */
static const struct site *site;
struct http_counters http_counters;

/* ---- lists and pools */

/* The first of a phase's list, or NULL. */
static struct http *first_of(u8 phase) {
    struct http_link *first = lists[phase].next;

    return first == &lists[phase] ? NULL : (struct http *)first;
}

static struct http *next_of(const struct http *h) {
    return h->link.next == &lists[h->phase] ? NULL : (struct http *)h->link.next;
}

static void append(struct http_link *list, struct http_link *link) {
    link->next = list;
    link->previous = list->previous;
    list->previous->next = link;
    list->previous = link;
}

/* Puts h at the end of a phase's list: its time there begins now. */
static void enter(struct http *h, u8 phase) {
    struct http_link *list = &lists[phase];

    h->phase = phase;
    h->since = now;
    if (list->previous == &h->link)
        return;
    h->link.previous->next = h->link.next;
    h->link.next->previous = h->link.previous;
    append(list, &h->link);
}

static void set_starved(struct http *h, bool starved) {
    starving += starved - h->starved;
    h->starved = starved;
}

static void drop_input(struct http *h) {
    if (h->input)
        free_input[free_inputs++] = h->input;
    h->input = NULL;
    h->input_used = h->input_scanned = 0;
}

static void drop_body(struct http *h) {
    if (h->body_users)
        --*h->body_users;
    h->body_users = NULL;
    h->body_left = 0;
}

static void add_queued(struct http *h, u32 length) {
    h->unacknowledged += length;
    http_counters.bytes += length;
}

static void drop_queued(struct http *h, u64 length) {
    h->unacknowledged -= length < h->unacknowledged ? length : h->unacknowledged;
    if (!h->unacknowledged) {
        blocks_used -= h->blocks;
        h->blocks = 0;
    }
}

/* The stream is no longer ours. */
static void release(struct http *h) {
    drop_input(h);
    drop_queued(h, h->unacknowledged);
    drop_body(h);
    set_starved(h, false);
    h->stream = NULL;
    enter(h, HTTP_FREE);
    http_counters.open--;
}

static void close_now(struct http *h) {
    if (h->input_used) /* what nobody will read must not look unread to TCP, which would reset */
        stream_consumed(h, h->input_used);
    stream_close(h);
    release(h);
}

static void abort_now(struct http *h) {
    stream_abort(h);
    release(h);
}

/* Makes room by closing whoever has been useless for longest. */
static bool evict(void) {
    static const u8 order[] = {HTTP_LINGER, HTTP_IDLE, HTTP_FIRST, HTTP_READING};

    for (u32 i = 0; i < sizeof order; i++)
        if (first_of(order[i])) {
            http_counters.evicted++;
            close_now(first_of(order[i]));
            return true;
        }
    struct http *h = first_of(HTTP_SENDING);
    if (!h || now - h->since < HTTP_STALLED_MS)
        return false;
    http_counters.evicted++; /* it takes its answer so slowly that a new one comes first */
    abort_now(h);
    return true;
}

static bool take_input(struct http *h) {
    while (!free_inputs) {
        struct http *other = first_of(HTTP_READING);
        while (other && (other == h || !other->input))
            other = next_of(other);
        if (!other)
            return false;
        http_counters.evicted++;
        abort_now(other);
    }
    h->input = free_input[--free_inputs];
    return true;
}

/* ---- sending */

/* A block that no stream refers to, or NULL. They come free about in the order in which they were taken. */
static struct block *free_block(void) {
    for (u32 i = 0; i < HTTP_BLOCKS; i++) {
        struct block *b = &blocks[next_block++ % HTTP_BLOCKS];
        if (!b->users)
            return b;
    }
    return NULL;
}

/* Queues a copy of a head, all of it or nothing. A client that asks much and acknowledges nothing gets no more than a
 * part of the blocks. */
static bool queue_copy(struct http *h, const char *data, u32 length) {
    u32 count = (length + HTTP_BLOCK_SIZE - 1) / HTTP_BLOCK_SIZE;
    u32 left = blocks_used < HTTP_BLOCKS ? HTTP_BLOCKS - blocks_used : 0;
    struct block *block[8192 / HTTP_BLOCK_SIZE + 1];

    if (count > left || (h->blocks && h->blocks + count > left / 8) || !stream_room(h, count + 1))
        return false;
    for (u32 i = 0; i < count; i++) {
        block[i] = free_block();
        if (!block[i]) { /* closed connections have some whose end is not acknowledged */
            while (i)
                block[--i]->users--;
            return false;
        }
        block[i]->users++;
    }
    for (u32 i = 0; i < count; i++, data += HTTP_BLOCK_SIZE) {
        u32 part = i + 1 < count ? HTTP_BLOCK_SIZE : length - i * HTTP_BLOCK_SIZE;
        memcpy(block[i]->text, data, part);
        stream_write(h, block[i]->text, part, &block[i]->users);
        block[i]->users--; /* from now on it is the stream's */
    }
    h->blocks += count;
    blocks_used += count;
    add_queued(h, length);
    return true;
}

/* Queues the head, and the body with it if it lies behind. */
static bool queue_head(struct http *h, struct answer *a) {
    u32 length = a->head_length;

    if (!a->head_users)
        return queue_copy(h, a->head, length);
    if (!stream_room(h, 2))
        return false;
    if (a->body == (const u8 *)a->head + length) {
        length += (u32)a->body_length;
        a->body_length = 0;
    }
    add_queued(h, stream_write(h, a->head, length, a->head_users));
    return true;
}

/* Queues as much of the body as fits: mostly all. */
static void send_body(struct http *h) {
    const u32 most = 1u << 30;

    while (h->body_left) {
        u32 want = h->body_left < most ? (u32)h->body_left : most;
        u32 taken = stream_write(h, h->body, want, h->body_users);
        h->body += taken;
        h->body_left -= taken;
        add_queued(h, taken);
        if (taken < want)
            return;
    }
    drop_body(h);
}

/* After this answer the connection ends: what else arrives is thrown away. */
static void begin_closing(struct http *h) {
    h->closing = true;
    h->skip = 0;
}

/* Queues an answer; false: no memory for its head, nothing has happened. */
static bool send_answer(struct http *h, struct answer *a) {
    if (!queue_head(h, a))
        return false;
    if (a->error)
        http_counters.errors++;
    h->body = a->body;
    h->body_left = a->body_length;
    if (a->live) {
        h->body_users = &a->live->users;
        ++*h->body_users;
    }
    if (!a->keep)
        begin_closing(h);
    send_body(h);
    return true;
}

/* ---- receiving */

/* Answers a request that was parsed; false: try again later. */
static bool respond(struct http *h, struct http_request *r) {
    struct answer a;

    answer_request(&a, site, r, now);
    bool done = send_answer(h, &a);
    answer_end(&a);
    if (!done)
        return false;
    http_counters.requests++;
    h->skip = a.keep ? r->body : 0;
    return true;
}

/* May the next request be looked at? */
static bool ready(struct http *h) {
    return !h->body_left && !h->closing && stream_room(h, 2);
}

/* Answers bytes that are no more than a request for a file as it is, with fields that are known. False: they are
 * to be read. */
static bool respond_known(struct http *h, const char *data, u32 length) {
    struct http_text target;

    if (!http_known(data, length, &target))
        return false;
    struct site_file *file = answer_ready(site, target);
    if (!file)
        return false;
    u32 near = file->near ? (u32)file->size : 0;
    add_queued(h, stream_write(h, file->head, file->head_length + near, &file->users));
    if (!file->near) {
        h->body = file->data;
        h->body_left = file->size;
        send_body(h);
    }
    http_counters.requests++;
    return true;
}

/* Handles what it can of the input; returns how many bytes are done with. `fresh`: nothing
 * of it has been looked at before. */
static u32 advance(struct http *h, const char *data, u32 length, bool fresh) {
    struct http_request r;
    u32 done = 0;

    while (done < length && ready(h)) {
        if (h->skip) {
            u32 part = h->skip < length - done ? (u32)h->skip : length - done;
            h->skip -= part;
            done += part;
            continue;
        }
        const char *at = data + done;
        u32 left = length - done;
        if (!fresh && !http_request_complete(at, left, &h->input_scanned))
            break;
        if (!http_request_parse(&r, at, left))
            break;
        h->input_scanned = 0; /* the head is there, whether it is answered now or later */
        http_known_learn(&r, at);
        if (!respond(h, &r)) {
            set_starved(h, !h->unacknowledged);
            break;
        }
        done += r.length;
    }
    return h->closing ? length : done;
}

/* Keeps bytes that cannot be worked on yet. */
static bool keep(struct http *h, const char *data, u32 length) {
    if (!length)
        return true;
    if ((!h->input && !take_input(h)) || length > HTTP_INPUT_SIZE - h->input_used)
        return false;
    memcpy(h->input + h->input_used, data, length);
    h->input_used += length;
    return true;
}

/* Works on the buffered input. */
static void advance_input(struct http *h) {
    if (!h->input_used)
        return;
    u32 done = advance(h, h->input, h->input_used, false);
    if (done) {
        stream_consumed(h, done);
        h->input_used -= done;
        memmove(h->input, h->input + done, h->input_used);
    }
    if (!h->input_used)
        drop_input(h);
}

/* Brings the phase up to date after anything happened. May end the connection. */
static void settle(struct http *h) {
    if (h->body_left || h->unacknowledged || h->starved) {
        if (h->phase != HTTP_SENDING)
            enter(h, HTTP_SENDING);
        return;
    }
    if (h->closing || h->ended) {
        if (h->ended)
            close_now(h);
        else if (h->phase != HTTP_LINGER)
            enter(h, HTTP_LINGER);
        return;
    }
    u8 phase = h->input_used || h->skip ? HTTP_READING : HTTP_IDLE;
    if (h->phase != phase)
        enter(h, phase);
}

/* When the last byte of the last answer is queued, so is the end. */
static void finish_if_done(struct http *h, bool was_closing) {
    if (h->closing && !was_closing && !h->body_left)
        stream_finish(h);
}

/* Works on input, or keeps it for later. False: the connection has been given up. */
static bool take(struct http *h, const void *data, u32 length) {
    bool was_closing = h->closing && !h->body_left, fresh = !h->input_used;

    if (h->phase == HTTP_LINGER || was_closing || (fresh && !h->skip && ready(h) && respond_known(h, data, length))) {
        stream_consumed(h, length);
        return true;
    }
    u32 done = fresh ? advance(h, data, length, true) : 0;
    if (done)
        stream_consumed(h, done);
    if (!keep(h, (const char *)data + done, length - done)) {
        abort_now(h);
        return false;
    }
    if (!fresh)
        advance_input(h);
    finish_if_done(h, was_closing);
    return true;
}

/* There may be room in the stream, or memory: goes on with what waited for it. */
static void resume(struct http *h) {
    bool was_closing = h->closing && !h->body_left;

    set_starved(h, false);
    if (h->body_left) {
        send_body(h);
        set_starved(h, h->body_left && !h->unacknowledged);
    }
    advance_input(h);
    finish_if_done(h, was_closing);
}

void http_segment(struct http *h, u32 acknowledged, const void *data, u32 length) {
    if (acknowledged) {
        drop_queued(h, acknowledged);
        if (h->phase == HTTP_SENDING)
            enter(h, HTTP_SENDING); /* progress: its time begins again */
        if (h->body_left || h->input_used || h->starved)
            resume(h);
    }
    if (!length || take(h, data, length))
        settle(h);
}

void http_end(struct http *h) {
    h->ended = true;
    settle(h); /* what has been asked and waits is still answered */
}

void http_lost(struct http *h) {
    release(h);
}

struct http *http_open(void *stream) {
    while (HTTP_CONNECTIONS - http_counters.open <= HTTP_SPARE && evict())
        ;
    struct http *h = first_of(HTTP_FREE);
    if (!h)
        return NULL;
    *h = (struct http){.link = h->link, .stream = stream, .phase = HTTP_FREE};
    enter(h, HTTP_FIRST);
    http_counters.open++;
    http_counters.connections++;
    return h;
}

/* ---- time */

/* A head did not come in time: say so, unless even that is impossible. */
static void expire_head(struct http *h) {
    struct answer a;

    answer_error(&a, 408);
    if (h->skip || !send_answer(h, &a)) {
        close_now(h);
        return;
    }
    stream_consumed(h, h->input_used);
    drop_input(h);
    stream_finish(h);
    settle(h);
}

static void expire(struct http *h) {
    http_counters.timeouts++;
    if (h->phase == HTTP_READING)
        expire_head(h);
    else if (h->phase == HTTP_SENDING)
        abort_now(h);
    else
        close_now(h);
}

static void feed_starved(void) {
    for (struct http *h = first_of(HTTP_SENDING), *next; h && starving; h = next) {
        next = next_of(h);
        if (h->starved) {
            resume(h);
            settle(h);
        }
    }
}

void http_now(u64 now_ms) { now = now_ms; }

u32 http_least_limit(void) { return starving ? STARVED_MS : HTTP_LINGER_MS; }

u32 http_tick(u64 now_ms, u64 unix_seconds) {
    u32 next = ~0u;

    now = now_ms;
    answer_set_time(unix_seconds);
    if (starving)
        feed_starved();
    for (u8 phase = HTTP_FIRST; phase < HTTP_PHASES; phase++) {
        struct http *h;
        while ((h = first_of(phase)) && now - h->since >= limit_ms[phase])
            expire(h);
        if (h && h->since + limit_ms[phase] - now < next)
            next = (u32)(h->since + limit_ms[phase] - now);
    }
    return starving && next > STARVED_MS ? STARVED_MS : next;
}

void http_init(const struct site *files) {
    site = files;
    http_known_init();
    for (u32 i = 0; i < HTTP_PHASES; i++)
        lists[i] = (struct http_link){&lists[i], &lists[i]};
    memset(&http_counters, 0, sizeof http_counters);
    memset(blocks, 0, sizeof blocks);
    starving = free_inputs = blocks_used = 0;
    for (u32 i = 0; i < HTTP_INPUTS; i++)
        free_input[free_inputs++] = inputs[i];
    for (u32 i = 0; i < HTTP_CONNECTIONS; i++) {
        pool[i] = (struct http){.phase = HTTP_FREE};
        append(&lists[HTTP_FREE], &pool[i].link);
    }
}
