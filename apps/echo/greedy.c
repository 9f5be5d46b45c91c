/* greedy: computes for ever, beside what is measured. */
#include "rt.h"

int main(void) {
    for (;;)
        __asm__ volatile("");
}
