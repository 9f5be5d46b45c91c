/* Memory of devices as pages. */
#include "device.h"

/* Whoever has a capability drives the device by its registers. */
TEST(device_registers, .needs = NEED_DEVICE) {
    struct cap cap = device_cap(EDU, 0), read = cap;
    u64 va = address(2);
    volatile u32 *edu = (volatile u32 *)va;

    EQUAL(machine_page(cap.name)->state & 0xff, PAGE_DEVICE);
    EQUAL(machine_page(cap.name)->owner, self()->creator);
    OK(memory_map_at(va, cap.name, 1, MAP_WRITE, &cap));
    EQUAL(edu[EDU_ID], EDU_ID_VALUE);
    edu[EDU_INVERT] = 0x12345678;
    EQUAL(edu[EDU_INVERT], ~0x12345678u);
    edu[EDU_FACTORIAL] = 6;
    for (u32 i = 0; i < 1000 && edu[EDU_STATUS] & 1; i++)
        pause_for(1);
    EQUAL(edu[EDU_FACTORIAL], 720);
    read.rights = RIGHT_READ;
    OK(sys_cap_derive(&cap, &read));
    OK(memory_map_at(va + RT_PAGE, cap.name, 1, 0, &read));
    EQUAL(edu[1024 + EDU_ID], EDU_ID_VALUE);
    EQUAL(try_write(va + RT_PAGE), 14);
    EQUAL(update(UPDATE_PROTECT, 0, va + RT_PAGE, 0, 1, MAP_WRITE, 0), E_NO_RIGHT);
    EQUAL(machine_page(cap.name)->state >> 32, 2);
    struct cap other = device_cap(TESTDEV, 0);
    OK(update(UPDATE_UNMAP, 0, va, 0, 2, 0, 0));
    OK(memory_map_at(va, other.name, 1, MAP_WRITE, &other));
    CHECK(try_read(va) == 32);
}

/* What is exposed of regions agrees with the descriptors of their pages. */
TEST(device_exposed, .needs = NEED_DEVICE) {
    const struct info *info = machine_info();
    u32 pages = 0;

    CHECK(info->devices >= 2 && info->devices <= DEVICES);
    for (const struct device *d = info->device; d < info->device + info->devices; d++) {
        CHECK(d->pages && machine_page(d->first) && machine_page(d->first + d->pages - 1));
        for (u32 i = 0; i < d->pages; i++)
            EQUAL((u8)machine_page(d->first + i)->state, PAGE_DEVICE);
        pages += d->pages;
    }
    CHECK(pages <= DEVICE_PAGES);
    u32 beyond = info->device[info->devices - 1].first + DEVICE_PAGES; /* in a large machine there is RAM */
    CHECK(beyond < info->pages || !machine_page(beyond));
    CHECK(!machine_page(0xffffffff));
}

static struct cap owned(u32 page, u32 count) {
    struct cap cap = {.type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .name = page, .count = count};

    OK(sys_cap_derive(0, &cap));
    return cap;
}

static u32 id_by(const struct cap *cap) {
    u64 va = address(1);

    OK(memory_map_at(va, cap->name, 1, 0, cap));
    u32 id = *(volatile u32 *)va;
    OK(update(UPDATE_UNMAP, 0, va, 0, 1, 0, 0));
    return id;
}

/* They are given away, revoked and taken back like others, and when their owner is destroyed they go to its creator; but they are
 * never zeroed, and never free. */
TEST(device_owned, .needs = NEED_DEVICE) {
    struct cap given = device_cap(EDU, 0), lent;
    u64 va = address(1);
    u32 page = given.name, owns = self()->pages, limit = self()->page_limit;

    OK(sys_page_give(&given, page, given.count, 0));
    EQUAL(self()->pages, owns + given.count);
    EQUAL(machine_page(page)->owner, rt_self());
    lent = owned(page, given.count);
    EQUAL(id_by(&lent), EDU_ID_VALUE);
    OK(sys_page_revoke(0, page, given.count));
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, 0, &lent), E_BAD_CAPABILITY);
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, 0, &given), E_BAD_CAPABILITY);
    EQUAL(sys_page_free(0, page, 1), E_WRONG_TYPE);
    /* Given to another, seen by this one, and back again when that one ends. */
    struct peer e = bare_env(4, 0);
    EQUAL(sys_page_give(0, page, 4, &e.cap), E_LIMIT);
    end_peer(&e);
    e = bare_env(given.count + 2, 0);
    lent = owned(page, given.count);
    OK(sys_page_give(0, page, given.count, &e.cap));
    EQUAL(machine_page(page + given.count - 1)->owner, e.env);
    OK(memory_map_at(va, page, 1, 0, &lent));
    EQUAL(*(volatile u32 *)va, EDU_ID_VALUE);
    end_peer(&e);
    EQUAL(try_read(va), 14);
    for (u32 i = 0; i < given.count; i++) {
        EQUAL(machine_page(page + i)->owner, rt_self());
        EQUAL(machine_page(page + i)->state, PAGE_DEVICE);
    }
    EQUAL(update(UPDATE_MAP, 0, va, page, 1, 0, &lent), E_BAD_CAPABILITY);
    lent = owned(page, 1);
    EQUAL(id_by(&lent), EDU_ID_VALUE);
    /* Taken by force. */
    e = bare_env(8, 0);
    OK(sys_page_give(0, page, 1, &e.cap));
    OK(memory_map_at(va, page, 1, 0, &lent));
    OK(sys_revoke(&e.cap, RESOURCE_PAGES, 1, 0));
    struct taking t = {.resource = RESOURCE_PAGES, .name = page};
    while (sys_repossess(&e.cap, &t, 1) == 1 && t.result == E_AGAIN)
        ;
    EQUAL(t.result, 0);
    EQUAL(t.saved, 0);
    EQUAL(machine_page(page)->owner, rt_self());
    EQUAL(try_read(va), 14);
    lent = owned(page, 1);
    EQUAL(id_by(&lent), EDU_ID_VALUE);
    end_peer(&e);
    EQUAL(self()->page_limit, limit);
}
