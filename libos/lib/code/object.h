/* Programs for the kernel's virtual machine from ELF objects, as `clang -O2 -target bpf -c` makes
 * them. No state, no memory of its own; also built into tools of the host.
 *
 * The program is one section, and begins at its first instruction. Functions of other sections that
 * it calls (clang puts what has no section of its own into .text) are added behind it. There are
 * no maps and no global data: everything is in registers, on the stack, and in windows. */
#pragma once
#include <targe/abi.h>

#define CODE_OBJECT_PARTS 8

/* A section that is part of the program. */
struct code_part {
    const char *name;
    u32 section; /* its number in the object */
    u32 start;   /* slot of the program where it begins */
    u32 count;   /* slots */
};

struct code_object {
    u32 count; /* slots of 8 bytes in the whole program */
    u32 parts;
    struct code_part part[CODE_OBJECT_PARTS];
    const char *refusal; /* why it cannot be loaded */
    const char *symbol;  /* what this is about, or NULL */
};

/* Makes a program from the object, in the `room` slots at `to`. `section` names it; NULL: the first
 * that has instructions, .text last. Returns 0 or E_BAD_ARGUMENT with refusal set. */
s64 code_object_load(const void *object, u64 size, const char *section, u64 *to, u32 room,
                     struct code_object *result);
