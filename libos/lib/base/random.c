/* RDRAND, which may fail now and then and is tried again. */
#include "base/random.h"

u64 random_word(void) {
    u32 a = 1, b, c = 0, d;
    u64 word = 0;
    u8 good = 0;

    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    for (u32 tries = 0; (c >> 30 & 1) && !good && tries < 10; tries++)
        __asm__ volatile("rdrand %0; setc %1" : "=r"(word), "=qm"(good));
    return word ^ rt_tsc() * 0x9e3779b97f4a7c15ull;
}
