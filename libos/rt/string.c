/* The functions that compilers call, and the few of <string.h> that libOSes use. */
#include "rt.h"

typedef u64 unaligned __attribute__((aligned(1), may_alias));

void *memcpy(void *to, const void *from, size_t n) {
    void *result = to;
    size_t words = n / 8, rest = n % 8;

    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
    return result;
}

void *memmove(void *to, const void *from, size_t n) {
    char *t = to;
    const char *f = from;

    if (t <= f || t >= f + n)
        return memcpy(to, from, n);
    while (n--)
        t[n] = f[n];
    return to;
}

void *memset(void *to, int byte, size_t n) {
    void *at = to;
    u64 pattern = (u8)byte * 0x0101010101010101ull;
    size_t words = n / 8, rest = n % 8;

    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(rest) : "a"(pattern) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n) {
    const u8 *x = a, *y = b;

    /* where eight bytes differ, or fewer are left, each by itself tells which */
    for (; n >= 8 && *(const unaligned *)x == *(const unaligned *)y; n -= 8) {
        x += 8;
        y += 8;
    }
    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

size_t strlen(const char *s) {
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n) {
    for (; n; a++, b++, n--)
        if (*a != *b || !*a)
            return (u8)*a - (u8)*b;
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, (size_t)-1); }

char *strchr(const char *s, int c) {
    for (;; s++) {
        if (*s == (char)c)
            return (char *)s;
        if (!*s)
            return 0;
    }
}

int atoi(const char *s) {
    int n = 0;

    while (*s >= '0' && *s <= '9')
        n = n * 10 + *s++ - '0';
    return n;
}
