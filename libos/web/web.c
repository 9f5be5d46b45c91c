/* One turn of the server's loop, see web.h: frames, time limits, then everything that has been
 * queued meanwhile goes to the device together. */
#include "web/web.h"
#include "web/http.h"
#include "web/machine_json.h"

#define BATCH 64 /* frames handled before answers go out */

static struct site site;
static u64 boot_time;
/* ms: */
static u64 second_at; /* the next second begins, and with it another date */
static u64 limit_at;  /* a time limit may have passed */

static u64 least(u64 a, u64 b) { return a < b ? a : b; }

static void tick(u64 now) {
    u32 wait = http_tick(now, boot_time + now / 1000);

    second_at = (now / 1000 + 1) * 1000;
    limit_at = wait == ~0u ? ~0ull : now + wait;
}

void web_start(const struct web_config *config) {
    site_build(&site, config->archive, config->archive_bytes, config->memory);
    boot_time = config->boot_time;
    machine_json_init();
    http_init(&site);
    tcp_init(&config->tcp);
    tick(tcp_clock());
}

u32 web_turn(void) {
    u64 now = tcp_clock();

    if (now >= second_at || now >= limit_at)
        tick(now);
    http_now(now);
    u32 frames = tcp_receive(BATCH), wait = tcp_timers();
    if (frames) /* what they began has a limit too */
        limit_at = least(limit_at, now + http_least_limit());
    if (!tcp_flush())
        wait = (u32)least(wait, 1);
    if (machine_json_work() || frames == BATCH)
        return 0;
    return (u32)least(wait, limit_at - now);
}
