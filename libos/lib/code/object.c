/* See object.h. The object is not trusted: every offset in it is checked before it is used. */
#include "code/object.h"

#include <stdbool.h>
#include <stddef.h>

struct elf_header {
    u8 ident[16];
    u16 type, machine;
    u32 version;
    u64 entry, program_headers, section_headers;
    u32 flags;
    u16 header_size, program_header_size, program_header_count;
    u16 section_header_size, section_count, names;
};

struct elf_section {
    u32 name, type;
    u64 flags, address, offset, size;
    u32 link, info;
    u64 align, entry_size;
};

struct elf_symbol {
    u32 name;
    u8 info, other;
    u16 section;
    u64 value, size;
};

struct elf_relocation {
    u64 offset, info;
};

enum { MACHINE_BPF = 247, SECTION_PROGRAM = 1, SECTION_RELOCATIONS = 9, FLAG_INSTRUCTIONS = 4 };
enum { RELOCATE_DATA = 1, RELOCATE_CALL = 10, OP_CALL = 0x85, CALL_LOCAL = 1 };

struct loader {
    const u8 *object;
    u64 size;
    const struct elf_header *header;
    u64 *to;
    u32 room;
    struct code_object *result;
};

static bool refuse(struct loader *l, const char *why, const char *symbol) {
    l->result->refusal = why;
    l->result->symbol = symbol;
    return false;
}

/* `count` things of `size` bytes at an offset of the object, aligned as they must be; or NULL. */
static const void *at(const struct loader *l, u64 offset, u64 count, u64 size, u64 align) {
    if (offset > l->size || (size && count > (l->size - offset) / size) || offset % align)
        return NULL;
    return l->object + offset;
}

static const struct elf_section *section_at(const struct loader *l, u32 n) {
    if (n >= l->header->section_count)
        return NULL;
    const struct elf_section *s = at(l, l->header->section_headers, l->header->section_count,
                                     sizeof(*s), 8);
    return s ? s + n : NULL;
}

/* A string of a string section, with its end inside it; "" if there is none. */
static const char *string_at(const struct loader *l, u32 strings, u32 offset) {
    const struct elf_section *s = section_at(l, strings);
    const char *text = s ? at(l, s->offset, s->size, 1, 1) : NULL;
    for (u64 n = offset; text && n < s->size; n++) {
        if (text[n] == 0)
            return text + offset;
    }
    return "";
}

static const char *section_name(const struct loader *l, u32 n) {
    const struct elf_section *s = section_at(l, n);
    return s ? string_at(l, l->header->names, s->name) : "";
}

static bool same(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static bool has_instructions(const struct elf_section *s) {
    return s && s->type == SECTION_PROGRAM && s->flags & FLAG_INSTRUCTIONS && s->size > 0;
}

/* The section that is asked for, or 0. */
static u32 find_section(const struct loader *l, const char *name) {
    u32 text = 0;
    for (u32 n = 1; n < l->header->section_count; n++) {
        if (!has_instructions(section_at(l, n)))
            continue;
        if (name ? same(section_name(l, n), name) : !same(section_name(l, n), ".text"))
            return n;
        if (!name)
            text = n;
    }
    return text;
}

/* Adds a section to the program, unless it is in already. Gives its part, or NULL. */
static struct code_part *add_part(struct loader *l, u32 section) {
    struct code_object *result = l->result;
    const struct elf_section *s = section_at(l, section);
    for (u32 n = 0; n < result->parts; n++) {
        if (result->part[n].section == section)
            return &result->part[n];
    }
    const u8 *from = has_instructions(s) ? at(l, s->offset, s->size, 1, 1) : NULL;
    if (!from || s->size % 8 || s->size / 8 > l->room - result->count ||
        result->parts == CODE_OBJECT_PARTS) {
        refuse(l, "the program is too long, or its section is damaged", section_name(l, section));
        return NULL;
    }
    struct code_part *part = &result->part[result->parts++];
    *part = (struct code_part){.name = section_name(l, section), .section = section,
                               .start = result->count, .count = (u32)(s->size / 8)};
    u8 *to = (u8 *)(l->to + result->count);
    for (u64 n = 0; n < s->size; n++)
        to[n] = from[n];
    result->count += part->count;
    return part;
}

/* Makes a call reach its function. */
static bool relocate_call(struct loader *l, u32 place, const struct elf_symbol *symbol,
                          const char *name) {
    u64 *insn = &l->to[place];
    s64 imm = (s32)(*insn >> 32);
    if ((*insn & 0xff) != OP_CALL || (*insn >> 12 & 15) != CALL_LOCAL)
        return refuse(l, "a relocation of a call is not at one", name);
    if (symbol->section == 0)
        return refuse(l, "calls a function that the object does not have", name);
    const struct code_part *part = add_part(l, symbol->section);
    if (!part)
        return false;
    s64 target = (s64)(symbol->value / 8) + imm + 1;
    if (symbol->value / 8 > part->count || target < 0 || target >= part->count)
        return refuse(l, "calls outside the function's section", name);
    u32 distance = (u32)((s64)part->start + target - (place + 1));
    *insn = (*insn & 0xffffffff) | (u64)distance << 32;
    return true;
}

static bool relocate(struct loader *l, const struct code_part *part, const struct elf_section *s) {
    const struct elf_section *symbols = section_at(l, s->link);
    u64 count = s->size / sizeof(struct elf_relocation);
    const struct elf_relocation *r = at(l, s->offset, count, sizeof(*r), 8);
    u64 symbol_count = symbols ? symbols->size / sizeof(struct elf_symbol) : 0;
    const struct elf_symbol *table =
        symbols ? at(l, symbols->offset, symbol_count, sizeof(*table), 8) : NULL;
    if (!r || !table)
        return refuse(l, "its relocations are damaged", part->name);
    u32 start = part->start, slots = part->count;
    for (u64 n = 0; n < count; n++) {
        u64 symbol = r[n].info >> 32;
        if (symbol >= symbol_count || r[n].offset % 8 || r[n].offset / 8 >= slots)
            return refuse(l, "its relocations are damaged", part->name);
        const char *name = string_at(l, symbols->link, table[symbol].name);
        if (!*name)
            name = section_name(l, table[symbol].section);
        if ((u32)r[n].info == RELOCATE_DATA)
            return refuse(l, "uses global data, which a program cannot have", name);
        if ((u32)r[n].info != RELOCATE_CALL)
            return refuse(l, "has a relocation of an unknown kind", name);
        if (!relocate_call(l, start + (u32)(r[n].offset / 8), &table[symbol], name))
            return false;
    }
    return true;
}

static bool load(struct loader *l, const char *name) {
    static const u8 ident[6] = {0x7f, 'E', 'L', 'F', 2, 1};
    l->header = at(l, 0, 1, sizeof(*l->header), 1);
    for (u32 n = 0; l->header && n < sizeof(ident); n++) {
        if (l->header->ident[n] != ident[n])
            l->header = NULL;
    }
    if (!l->header || l->header->machine != MACHINE_BPF || l->header->type != 1 ||
        l->header->section_header_size != sizeof(struct elf_section))
        return refuse(l, "not an object of `clang -target bpf -c`", NULL);
    u32 section = find_section(l, name);
    if (!section)
        return refuse(l, "no such section with instructions", name);
    if (!add_part(l, section))
        return false;
    /* Relocations may add further parts, which then have their turn. */
    for (u32 n = 0; n < l->result->parts; n++) {
        for (u32 k = 1; k < l->header->section_count; k++) {
            const struct elf_section *s = section_at(l, k);
            if (s && s->type == SECTION_RELOCATIONS && s->info == l->result->part[n].section &&
                !relocate(l, &l->result->part[n], s))
                return false;
        }
    }
    return true;
}

s64 code_object_load(const void *object, u64 size, const char *section, u64 *to, u32 room,
                     struct code_object *result) {
    struct loader l = {.object = object, .size = size, .to = to, .room = room, .result = result};
    *result = (struct code_object){.count = 0};
    if ((uintptr_t)object % 8) {
        refuse(&l, "the object must begin at a multiple of 8", NULL);
        return E_BAD_ARGUMENT;
    }
    return load(&l, section) ? 0 : E_BAD_ARGUMENT;
}
