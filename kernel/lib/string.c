/* The memory functions that the compiler calls. */
#include "lib/base.h"

#undef memcpy
#undef memset

void *memcpy(void *to, const void *from, size_t n) {
    void *result = to;
    size_t words = n / 8;
    size_t rest = n % 8;

    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
    return result;
}

void *memmove(void *to, const void *from, size_t n) {
    u8 *t = to;
    const u8 *f = from;

    if (t <= f || t >= f + n)
        return memcpy(to, from, n);
    while (n--)
        t[n] = f[n];
    return to;
}

void *memset(void *to, int byte, size_t n) {
    void *at = to;
    u64 pattern = (u8)byte * 0x0101010101010101ull;
    size_t words = n / 8;
    size_t rest = n % 8;

    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(rest) : "a"(pattern) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n) {
    const u8 *x = a, *y = b;

    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}
