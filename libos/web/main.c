/* The web libOS: serves the files of the boot archive over HTTP.
 *
 * From its creator it needs a TCP flow, the network's addresses and the archive; a console is
 * welcome. It never ends by itself: killed or restarted, it leaves nothing behind but what the
 * kernel takes back. */
#include "base/memory.h"
#include "base/print.h"
#include "base/random.h"
#include "base/start.h"
#include "base/wait.h"
#include "machine/machine.h"
#include "net/port_targe.h"
#include "web/site.h"
#include "web/web.h"

static const struct start_item *need(const char *name) {
    const struct start_item *item = start_item(name, 0);

    if (!item) {
        print("web: the manifest gives it no %s\n", name);
        rt_exit(1);
    }
    return item;
}

static const struct start_item *tcp_flow(void) {
    const struct start_item *item;

    for (u32 i = 0; (item = start_item("flow", i)); i++)
        if (item->a == START_TCP)
            return item;
    print("web: the manifest gives it no flow=tcp:PORT\n");
    rt_exit(1);
}

static u32 pages_for(u64 bytes) {
    return (u32)((bytes + RT_PAGE - 1) / RT_PAGE);
}

static void *must(void *memory, const char *what) {
    if (!memory) {
        print("web: no memory for %s: the manifest should give it more pages\n", what);
        rt_exit(1);
    }
    return memory;
}

/* Where no device sums, sums of the archive's bytes are kept. */
static void keep_sums(struct web_config *config) {
    config->tcp.sums.block = must(memory_alloc(pages_for(sums_memory(config->archive_bytes)) + 1), "the files' sums");
    config->tcp.sums.first = config->archive;
    config->tcp.sums.length = config->archive_bytes / SUM_BLOCK * SUM_BLOCK;
}

static void read_network(struct web_config *config) {
    const struct start_item *net = need("net");

    config->tcp.address = __builtin_bswap32((u32)(net->a >> 32));
    config->tcp.key[0] = random_word();
    config->tcp.key[1] = random_word();
}

static void read_archive(struct web_config *config, const struct start_item *archive) {
    config->archive = must(memory_map(archive->cap.name, archive->cap.count, 0, &archive->cap),
                           "the archive's tables");
    config->archive_bytes = archive->a;
    u64 bytes = site_memory(config->archive, config->archive_bytes);
    config->memory = must(memory_alloc(pages_for(bytes)), "the site's index");
}

static void on_exception(struct frame *frame) {
    if (machine_fault(frame))
        return;
    print("web: exception %lu at %lx, address %lx\n", frame->cause, frame->rip, frame->address);
    rt_exit(frame->cause);
}

int main(void) {
    rt_on_exception(on_exception);
    const struct start_item *archive = need("archive"), *flow = tcp_flow();
    const struct info *info = machine_info();
    struct web_config config = {.tcp.port = (u16)flow->b, .boot_time = info->boot_time};

    read_network(&config);
    read_archive(&config, archive);
    struct port_targe_config device = {
        .flow = &flow->cap, .mac = info->mac, .checksum = info->checksum,
        .shared = config.archive, .shared_bytes = (u64)archive->cap.count * RT_PAGE,
        .shared_cap = &archive->cap};
    if (!info->checksum)
        keep_sums(&config);
    s64 error = port_targe_open(&device);
    if (error) {
        print("web: cannot use the network: %s\n", error_name(error));
        return 1;
    }
    web_start(&config);
    print("web: serving port %u\n", config.tcp.port);
    for (;;) {
        u64 seen = deliveries();
        u32 ms = web_turn();
        if (ms)
            wait_for_more(seen, ms == ~0u ? NEVER : deadline_in(ms));
    }
}
