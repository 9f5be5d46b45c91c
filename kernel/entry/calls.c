/* The table of calls, in the order of abi/targe.toml. */
#include "targe/call_table.h"

#include "lib/base.h"

/* The fourth argument comes in r10, since `syscall` loses rcx, where C expects it. */
#define wide(name) \
    void wide_##name(void); \
    __asm__(".text\nwide_" #name ": movq %r10, %rcx\njmp call_" #name "\n");
/* A call of class "frame" needs all registers of its caller: the table leads to a stub that
 * remembers the handler, and entry_frame then saves them. */
#define plain(name)
#define frame(name) \
    void frame_##name(void); \
    __asm__(".text\nframe_" #name ": movq $call_" #name ", %rcx\njmp entry_frame\n");
CALL_TABLE(plain, wide, frame)
#undef plain
#undef wide
#undef frame

#define plain(name) (const void *)call_##name,
#define wide(name) (const void *)wide_##name,
#define frame(name) (const void *)frame_##name,
extern const void *const call_table[CALL_COUNT];
const void *const call_table[CALL_COUNT] = {CALL_TABLE(plain, wide, frame)};
