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
    u64 value[2];
};

#define PROGRAM(name) __attribute__((section(name), used))

/* Helpers of handlers. Sums are one's complement sums of big-endian 16-bit words, not inverted. */
static u64 (*const checksum)(const void *from, u64 size, u64 sum) = (void *)1;
static u64 (*const copy)(void *to, const void *from, u64 size, u64 sum) = (void *)2;

#define from_big16(x) __builtin_bswap16(x)
#define from_big32(x) __builtin_bswap32(x)
