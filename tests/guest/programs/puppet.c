/* A handler that does what a test tells it. */
#include "code/program.h"
#include "puppet.h"

PROGRAM("handler") u64 puppet(const struct handler_context *c) {
    volatile struct puppet_orders *o = (volatile struct puppet_orders *)c->memory;

    if (c->memory_length < sizeof *o)
        return HANDLER_ABORT;
    o->runs++;
    u64 orders = o->orders;
    if (orders & PUPPET_SHOW)
        copy((void *)o->room, c->reply, 192, 0);
    if (orders & PUPPET_CONTEXT) {
        o->seen[0] = c->packet_length;
        o->seen[1] = c->memory_length;
        o->seen[2] = c->reply_length;
        o->seen[3] = c->checked;
        o->seen[4] = c->time;
    }
    if (orders & PUPPET_COPY)
        o->sum = copy(c->memory + (o->to & 0xffff), c->packet + (o->from & 0xffff), o->size, 0);
    if (orders & PUPPET_READ)
        o->sum = c->packet[o->at & 0xffffff];
    if (orders & PUPPET_WRITE)
        c->memory[o->at & 0xffffffff] = (u8)o->value;
    if (orders & PUPPET_SEND) {
        copy(c->reply, (const void *)o->answer, 64, 0);
        if (o->attached)
            attach(c->memory + (o->attach_at & 0xffffff), o->attached);
        send(o->length, o->sum_start, o->sum_offset);
    }
    if (orders & PUPPET_PUBLISH)
        publish(o->at, o->value);
    if (orders & PUPPET_EVENT)
        event(1, c->packet_length);
    if (orders & PUPPET_WAKE)
        wake();
    if (orders & PUPPET_SCRIBBLE)
        o->orders = ~0ull;
    while (orders & PUPPET_LOOP)
        o->seen[5]++;
    return o->result;
}
