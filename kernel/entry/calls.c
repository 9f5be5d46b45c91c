/* The table of calls, in the order of abi/targe.toml. */
#include "targe/call_table.h"

#include "lib/base.h"

#define plain(name)
/* The fourth argument comes in r10, since `syscall` loses rcx, where C expects it. */
#define wide(name) \
    void wide_##name(void); \
    __asm__(".text\nwide_" #name ": movq %r10, %rcx\njmp call_" #name "\n");
/* A call of class "pause" may suspend its caller. It does not return to where the others return to. */
#define pause(name) \
    void pause_##name(void); \
    __asm__(".text\npause_" #name ": popq %rcx\ncall call_" #name "\njmp entry_paused\n");
#define transfer(name)
CALL_TABLE(plain, wide, pause, transfer)
#undef plain
#undef wide
#undef pause
#undef transfer

#define plain(name) (const void *)call_##name,
#define wide(name) (const void *)wide_##name,
#define pause(name) (const void *)pause_##name,
#define transfer(name) NULL, /* it has an entry of its own */
extern const void *const call_table[CALL_COUNT];
const void *const call_table[CALL_COUNT] = {CALL_TABLE(plain, wide, pause, transfer)};
