/* Reading what the boot loader left: PVH (Xen's hvm_start_info, version 1) and multiboot2. */
#include "boot/boot.h"
#include "core/memory.h"

#define PVH_MAGIC 0x336ec578
#define LOW_GIB (1ull << 30) /* what the boot tables map */

struct boot boot;

struct pvh_start {
    u32 magic, version, flags, modules;
    u64 module_list, command_line, rsdp, memory_map;
    u32 memory_entries, zero;
};
struct pvh_module { u64 at, size, command_line, zero; };
struct pvh_memory { u64 at, size; u32 type, zero; };

static const void *low(u64 at) {
    CHECK(at && at < LOW_GIB);
    return phys_ptr((phys){at});
}

static void add_ram(u64 at, u64 size) {
    u64 begin = round_up(at, PAGE_SIZE), end = (at + size) / PAGE_SIZE * PAGE_SIZE;

    if (at + size < at || begin >= end || boot.ranges == BOOT_RANGES)
        return;
    boot.ram[boot.ranges++] = (struct range){begin, end};
}

static void set_archive(u64 begin, u64 end) {
    if (!boot.archive.end)
        boot.archive = (struct range){begin, end};
}

static void set_command_line(const char *text) {
    for (u32 i = 0; i + 1 < sizeof boot.command_line && text[i]; i++)
        boot.command_line[i] = text[i];
}

static void parse_pvh(const struct pvh_start *s) {
    CHECK(s->magic == PVH_MAGIC && s->version >= 1);
    boot.rsdp = s->rsdp;
    if (s->command_line)
        set_command_line(low(s->command_line));
    const struct pvh_memory *m = low(s->memory_map);
    for (u32 i = 0; i < s->memory_entries; i++)
        if (m[i].type == 1)
            add_ram(m[i].at, m[i].size);
    if (s->modules) {
        const struct pvh_module *module = low(s->module_list);
        set_archive(module->at, module->at + module->size);
    }
}

enum { TAG_END, TAG_COMMAND_LINE, TAG_MODULE = 3, TAG_MEMORY = 6, TAG_ACPI_OLD = 14, TAG_ACPI_NEW = 15 };
struct tag { u32 type, size; };
struct module_tag { struct tag tag; u32 begin, end; };
struct memory_tag { struct tag tag; u32 entry_size, version; struct { u64 at, size; u32 type, zero; } entry[]; };

static void parse_tag(const struct tag *tag) {
    const struct memory_tag *m = (const void *)tag;
    const struct module_tag *module = (const void *)tag;

    switch (tag->type) {
    case TAG_COMMAND_LINE: set_command_line((const char *)(tag + 1)); break;
    case TAG_MODULE: set_archive(module->begin, module->end); break;
    case TAG_MEMORY:
        CHECK(m->entry_size == sizeof m->entry[0]);
        for (u32 i = 0; i < (tag->size - sizeof *m) / m->entry_size; i++)
            if (m->entry[i].type == 1)
                add_ram(m->entry[i].at, m->entry[i].size);
        break;
    case TAG_ACPI_OLD: /* a copy of the RSDP */
    case TAG_ACPI_NEW:
        boot.rsdp = ptr_phys(tag + 1).v;
        break;
    }
}

void boot_parse(u32 loader, u64 at) {
    if (loader == BOOT_PVH) {
        parse_pvh(low(at));
        return;
    }
    u32 total = *(const u32 *)low(at);
    for (u64 offset = 8; offset + 8 <= total;) {
        const struct tag *tag = low(at + offset);
        if (tag->type == TAG_END || tag->size < 8)
            break;
        parse_tag(tag);
        offset += round_up(tag->size, 8);
    }
}
