/* Computing: no system is in the way, so none should be faster. The same loop as in
 * bench/linux/bench.c, in an environment of its own, which asks for extended state. */
#include "bench.h"

#define SIZE 150
static double a[SIZE][SIZE], b[SIZE][SIZE], product[SIZE][SIZE];

static void multiply(u64 n) {
    while (n--) {
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) {
                double sum = 0;
                for (int k = 0; k < SIZE; k++)
                    sum += a[i][k] * b[k][j];
                product[i][j] = sum;
            }
        __asm__ volatile("" ::"r"(a), "r"(b), "r"(product) : "memory"); /* keep the stores */
    }
}
ROW(matrix, "product") {
    if (!alone())
        return;
    rt_context(0)->fpu = 1;
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = (i + j) / 7.0; /* QEMU computes by the host's unit only after a result was not exact */
            b[i][j] = (i - j) / 7.0;
        }
    measure(1, multiply);
    serve();
}
