/* The kernel's common ground: types that do not mix, assertions, printing, small helpers.
 *
 * Physical addresses (phys), user addresses (uaddr) and page numbers (u32, always named page
 * or ...page) are told apart; a kernel pointer is an ordinary pointer. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "targe/abi.h"

#define PAGE_SIZE 4096ull
#define PAGE_SHIFT 12
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGNED(n) __attribute__((aligned(n)))
#define NORETURN __attribute__((noreturn))
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define OFTEN __attribute__((hot))
#define COLD __attribute__((cold, noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

typedef struct { u64 v; } phys;  /* a physical address */
typedef struct { u64 v; } uaddr; /* an address in a libOS's space: hostile until checked */

static inline phys phys_of_page(u32 page) { return (phys){(u64)page << PAGE_SHIFT}; }
static inline u32 page_of_phys(phys p) { return (u32)(p.v >> PAGE_SHIFT); }

/* Printing goes to the serial line. Formats: %s %u %x %lu %lx, no others. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void vprint(const char *format, va_list args);
NORETURN COLD void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* CHECK holds in every build; ASSERT is for what only a bug in the kernel can break. */
#define CHECK(x) \
    do { \
        if (unlikely(!(x))) \
            panic("%s:%d: %s", __FILE__, __LINE__, #x); \
    } while (0)
#ifdef DEBUG
#define ASSERT(x) CHECK(x)
#else
#define ASSERT(x) ((void)sizeof(x))
#endif

/* Returns from the function with the error that x gives, if it gives one. Nothing may have to be undone. */
#define TRY(x) \
    do { \
        s64 failed_ = (x); \
        if (failed_) \
            return failed_; \
    } while (0)

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);
#ifndef HOST_TEST /* freestanding, a compiler would call them even for a few words */
#define memcpy(to, from, n) __builtin_memcpy(to, from, n)
#define memset(to, byte, n) __builtin_memset(to, byte, n)
#endif

static inline u64 round_up(u64 n, u64 to) { return (n + to - 1) / to * to; }
static inline u64 min_u64(u64 a, u64 b) { return a < b ? a : b; }
