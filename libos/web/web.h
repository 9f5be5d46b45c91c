/* The web libOS as its main programs see it: start once, then turn in a loop. */
#pragma once
#include "tcp/tcp.h"

struct web_config {
    struct tcp_config tcp;
    const u8 *archive; /* the boot archive */
    u64 archive_bytes;
    void *memory; /* site_memory(archive, archive_bytes) bytes, aligned to 16 */
    u64 boot_time; /* seconds since 1970 when the port's clock stood at 0 */
};

void web_start(const struct web_config *config);
/* Does all that there is to do now. Returns for how many ms nothing else will be, unless a frame
 * arrives; ~0: for ever. */
u32 web_turn(void);
