/* The handler of apps/kvcache, downloaded into the kernel: answers `get` of one key out of the table. All else, and
 * whatever looks odd, goes to the library OS. */
#include "code/program.h"
#include "table.h"

#define IP 14
#define ADDRESSES 26
#define UDP 34
#define FRAME 42 /* memcached's own header: number of the request, of the datagram, of datagrams, 0 */
#define TEXT 50
#define KEY 54

#define INLINE static __attribute__((always_inline))
#define at(type, base, offset) (*(type *)((base) + (offset)))

INLINE u16 fold(u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (u16)((sum & 0xffff) + (sum >> 16));
}

/* The UDP header's part of the sum, in the order of memory. */
INLINE u64 pseudo(const u8 *frame, u16 length) {
    return (u64)at(u32, frame, ADDRESSES) + at(u32, frame, ADDRESSES + 4) + from_big16(17) + length;
}

/* The place of the entry with this key, or ENTRIES_MOST. */
INLINE u64 find(const struct table *table, const u8 *key, u64 length, u64 hash, u64 now) {
    u64 set = hash % SETS;
    for (u64 way = 0; way < WAYS; way++) {
        if (table->index[set][way] != hash)
            continue;
        u64 place = set * WAYS + way;
        const struct entry *e = (const struct entry *)((const u8 *)table + PAGE + place * PAGE);
        if (e->key_length != length || (e->expires && e->expires <= now))
            continue;
        u64 n = 0;
        while (n < length && e->key[n & 255] == key[n])
            n++;
        if (n == length)
            return place;
    }
    return ENTRIES_MOST;
}

/* Everything before the text: addresses and ports exchanged. */
INLINE void headers(u8 *a, const u8 *q, u64 text, u64 sum) {
    u16 length = from_big16((u16)(16 + text));
    at(u32, a, 0) = at(u32, q, 6);
    at(u16, a, 4) = at(u16, q, 10);
    at(u32, a, 6) = at(u32, q, 0);
    at(u16, a, 10) = at(u16, q, 4);
    at(u16, a, 12) = at(u16, q, 12);
    at(u16, a, IP) = from_big16(0x4500);
    at(u16, a, IP + 2) = from_big16((u16)(36 + text));
    at(u32, a, IP + 4) = from_big32(0x4000);
    at(u32, a, IP + 8) = from_big32(0x40110000);
    at(u32, a, ADDRESSES) = at(u32, q, ADDRESSES + 4);
    at(u32, a, ADDRESSES + 4) = at(u32, q, ADDRESSES);
    at(u16, a, IP + 10) = (u16)~fold((u64)at(u32, a, IP) + at(u32, a, IP + 4) + at(u32, a, IP + 8) +
                                     at(u32, a, ADDRESSES) + at(u32, a, ADDRESSES + 4));
    at(u16, a, UDP) = at(u16, q, UDP + 2);
    at(u16, a, UDP + 2) = at(u16, q, UDP);
    at(u16, a, UDP + 4) = length;
    at(u16, a, FRAME) = at(u16, q, FRAME);
    at(u16, a, FRAME + 2) = 0;
    at(u32, a, FRAME + 4) = from_big32(0x00010000);
    u16 check = (u16)~fold(pseudo(a, length) + at(u32, a, UDP) + length + at(u32, a, FRAME) + at(u32, a, FRAME + 4) +
                           from_big16((u16)sum));
    at(u16, a, UDP + 6) = check ? check : 0xffff;
}

PROGRAM("handler") u64 answer(const struct handler_context *c) {
    const u8 *q = c->packet;
    u8 *a = c->reply;
    volatile struct table *table = (volatile struct table *)c->memory;

    if (c->packet_length < KEY + 3 || c->reply_length < 64 || c->memory_length < sizeof *table)
        return HANDLER_ABORT;
    /* The flow's filter has looked at protocol, address, port and fragments. */
    u64 total = from_big16(at(u16, q, IP + 2)), size = total - 20;
    if (q[6] & 1 || q[IP] != 0x45 || total < KEY + 3 - IP || total > c->packet_length - IP ||
        from_big16(at(u16, q, UDP + 4)) != size || at(u16, q, UDP) == at(u16, q, UDP + 2) ||
        at(u16, q, FRAME + 2) || at(u16, q, FRAME + 4) != from_big16(1) || at(u32, q, TEXT) != from_big32(0x67657420))
        return HANDLER_ABORT;
    if (!c->checked && at(u16, q, UDP + 6) &&
        fold(pseudo(q, at(u16, q, UDP + 4)) + from_big16((u16)checksum(q + UDP, size, 0))) != 0xffff)
        return HANDLER_ABORT;

    u64 length = total + IP - KEY - 2, hash = HASH_START; /* all up to the end of the line is the key */
    if (length > KEY_MOST || !length)
        return HANDLER_ABORT;
    for (u64 n = 0; n < length; n++) {
        u8 byte = q[KEY + n];
        if (byte <= ' ' || byte == 127)
            return HANDLER_ABORT; /* several keys, or none at all */
        hash = HASH_NEXT(hash, byte);
    }
    if (q[KEY + length] != '\r' || q[KEY + length + 1] != '\n')
        return HANDLER_ABORT;

    table->busy = 1;
    u64 place = find((const struct table *)table, q + KEY, length, hash ? hash : 1, c->time);
    if (place == ENTRIES_MOST) {
        at(u32, a, TEXT) = from_big32(0x454e440d); /* END\r\n */
        a[TEXT + 4] = '\n';
        headers(a, q, 5, 0x454e + 0x440d + 0x0a00);
        send(TEXT + 5, 0, 0);
        publish(__builtin_offsetof(struct table, misses), table->misses + 1);
    } else {
        const struct entry *e = (const struct entry *)(c->memory + PAGE + place * PAGE);
        u64 text = e->text_length;
        headers(a, q, text, e->sum);
        attach(e->text, text);
        send(TEXT, 0, 0);
        publish(__builtin_offsetof(struct table, hits), table->hits + 1);
    }
    publish(__builtin_offsetof(struct table, busy), 0); /* when the frame is queued */
    return HANDLER_DONE;
}
