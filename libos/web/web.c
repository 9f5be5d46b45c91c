/* One turn of the server's loop, see web.h: frames, time limits, then everything that has been
 * queued meanwhile goes to the device together. */
#include "web/web.h"
#include "web/http.h"
#include "web/machine_json.h"
#include "web/serve.h"

#define BATCH 64 /* frames handled before answers go out */

static struct site site;
static u64 boot_time;

static u32 least(u32 a, u32 b) {
    return a < b ? a : b;
}

static u32 tick(void) {
    u64 now = net_now_ms();

    return http_tick(now, boot_time + now / 1000);
}

const char *web_start(struct port *port, const struct web_config *config) {
    net_init(port, &config->net);
    site_build(&site, config->archive, config->archive_bytes, config->memory);
    boot_time = config->boot_time;
    machine_json_init();
    http_init(&site);
    tick();
    return serve_start(config->port) ? NULL : "web: no memory to listen";
}

u32 web_turn(void) {
    u32 frames = net_receive(BATCH);
    u32 wait = tick();

    wait = least(wait, net_timers());
    if (!net_flush())
        wait = least(wait, 1);
    if (machine_json_work() || frames == BATCH)
        return 0;
    return wait;
}
