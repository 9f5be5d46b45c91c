/* For programs that are compiled with `clang -O2 -target bpf -c` for the kernel's virtual machine:
 * what they find and whom they can call. Not for libOSes. See docs/code.md. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

/* A predicate is u64 NAME(const u8 *packet, u64 length). */

/* A handler is u64 NAME(const struct handler_context *context). Look at a length first, as in
 * `if (context->packet_length < 42) return 0;`: what this proves is not checked again. */
struct handler_context {
    const u8 *packet;
    u64 packet_length;
    u8 *memory;
    u64 memory_length;
    u8 *reply;
    u64 reply_length;
    u64 reserved[10];
    u64 checked; /* as in the flags of a ring's entry: CHECKED, PARTIAL */
    u64 time;    /* TSC when the handler was run */
};

/* What it returns: nothing of what it asked for happens, and the frame goes to the ring (also if the
 * kernel stops it); all happens, and the frame is dealt with; or goes to the ring as well. */
enum { HANDLER_ABORT, HANDLER_DONE, HANDLER_PASS };

/* The device vouches for the checksums. Of a packet that comes from the same host it may be that the checksum's field holds only
 * the sum of the pseudo-header, with which the device completes it if it is asked to. */
enum { CHECKED = 1, PARTIAL = 2 };

#define PROGRAM(name) __attribute__((section(name), used))

/* Helpers of handlers. Sums are one's complement sums of big-endian 16-bit words, not inverted. */
static u64 (*const checksum)(const void *from, u64 size, u64 sum) = (void *)1;
static u64 (*const copy)(void *to, const void *from, u64 size, u64 sum) = (void *)2;

/* What is asked for with these happens when the handler has returned, all of it or nothing.
 *   send     a frame: the first bytes of `reply`. It must satisfy the flow's transmit condition. The device sums from `start` on
 *            and stores the checksum `offset` bytes behind, as in struct send of the interface; 0, 0: it does not
 *   attach   and then these bytes of `memory`, at most 4,096, which the device reads in place
 *   wake     the owner looks again, if it sleeps
 *   event    an EVENT_HANDLER in the owner's event ring
 *   publish  the word `at` bytes from the start of `memory` becomes the value; at most 4 */
static u64 (*const send)(u64 size, u64 start, u64 offset) = (void *)3;
static u64 (*const attach)(const void *from, u64 size) = (void *)4;
static u64 (*const wake)(void) = (void *)5;
static u64 (*const event)(u64 a, u64 b) = (void *)6;
static u64 (*const publish)(u64 at, u64 value) = (void *)7;

#define from_big16(x) __builtin_bswap16(x)
#define from_big32(x) __builtin_bswap32(x)
#define from_big64(x) __builtin_bswap64(x)
