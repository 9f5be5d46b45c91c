/* What the monitor shows of the machine, as text of at most 80 columns. All of it comes from the
 * pages that the kernel exposes. */
#pragma once
#include "monitor/sheet.h"

#define VIEW_BYTES 16384 /* room that a sheet for a view needs */

/* One way to use a command: what may follow its name, and what it does. */
struct use {
    const char *rest, *what; /* a NULL `what`: no more uses */
};
/* Says the uses of a command, one a line. */
void say_uses(struct sheet *s, const char *name, const struct use *use);

/* Writes the view of this name; false: there is none. `argument` may be empty, or choose a page
 * or a CPU; one that is no good is answered by a line that says so. */
bool view_write(struct sheet *s, const char *name, const char *argument);
/* Says the uses of this view (NULL: of all); false: there is none. */
bool view_help(struct sheet *s, const char *name);
/* Says which kinds of trace records a mask chooses. */
void say_kinds(struct sheet *s, u64 mask);
/* The mask that chooses the kind of this name; 0: there is none. */
u64 find_kind(const char *name);

/* A decimal number, or a hexadecimal one after 0x; false: the text is something else. */
bool parse_number(const char *text, u64 *number);
/* The name of an environment, made printable; `room` has 16 bytes. "kernel" for 0. */
const char *env_name(u32 page, char room[16]);
/* The live environment of this name, or 0. */
u32 env_find(const char *name);
