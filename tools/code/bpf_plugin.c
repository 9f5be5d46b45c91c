/* bpf-plugin: runs one case of a conformance suite for BPF runtimes.
 *
 *     bpf-plugin [MEMORY] [--program HEX] [--interpret | --jit] [--debug]
 *
 * The program comes in hex bytes on standard input (or after --program), the memory in hex bytes as
 * an argument that may be empty or absent. r1 is the memory's address and r2 its length. Prints r0
 * in hex and exits with 0; if the program is refused or stopped, says why and exits with 1. */
#define _GNU_SOURCE
#include "host.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
    fprintf(stderr, "bpf-plugin: %s\n", what);
    return 1;
}

static int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Bytes of two digits, with or without space between. Gives how many there are, or -1. */
static long from_hex(const char *text, u8 *to) {
    long count = 0;
    while (*text) {
        if (isspace((unsigned char)*text)) {
            text++;
            continue;
        }
        int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);
        if (high < 0)
            return -1;
        to[count++] = (u8)(low < 0 ? high : high << 4 | low);
        text += low < 0 ? 1 : 2;
    }
    return count;
}

static char *read_all(FILE *file) {
    size_t size = 0, room = 1 << 16;
    char *text = malloc(room);
    while (text) {
        size += fread(text + size, 1, room - size - 1, file);
        if (size < room - 1)
            break;
        text = realloc(text, room *= 2);
    }
    if (text)
        text[size] = 0;
    return text;
}

static int run(const struct code_profile *profile, struct host_program *h, u8 *memory, long length,
               bool interpret) {
    static struct code_run r;
    code_run_start(&r, profile);
    r.window[0] = (struct code_window){.base = memory, .length = (u64)length};
    if (!interpret && !host_translate(h))
        return fail("no memory for the translated program");
    u64 result = interpret ? code_interpret(h->program, &r) : code_enter(h->code, &r);
    if (r.status != CODE_DONE)
        return fail(host_status(r.status));
    printf("%lx\n", result);
    return 0;
}

int main(int argc, char **argv) {
    const char *memory_text = "", *program_text = NULL;
    bool interpret = false, memory_seen = false;
    for (int n = 1; n < argc; n++) {
        if (strcmp(argv[n], "--interpret") == 0)
            interpret = true;
        else if (strcmp(argv[n], "--jit") == 0)
            interpret = false;
        else if (strcmp(argv[n], "--program") == 0 && n + 1 < argc)
            program_text = argv[++n];
        else if (strcmp(argv[n], "--debug") == 0)
            continue;
        else if (strncmp(argv[n], "--", 2) == 0 || (memory_seen && argv[n][0]))
            return fail("unexpected argument");
        else if (!memory_seen) {
            memory_text = argv[n];
            memory_seen = true;
        }
    }
    char *input = program_text ? strdup(program_text) : read_all(stdin);
    if (!input)
        return fail("no memory");
    u8 *bytes = malloc(strlen(input) + 8), *memory = malloc(strlen(memory_text) + 8);
    if (!bytes || !memory)
        return fail("no memory");
    long count = from_hex(input, bytes), length = from_hex(memory_text, memory);
    if (count < 0 || length < 0)
        return fail("not hex bytes");
    if (count % 8 || count > CODE_INSNS * 8)
        return fail("the program is not a whole number of instructions, or too long");
    struct code_profile profile = *host_profile("conformance");
    profile.window[0].minimum = profile.window[0].maximum = (u32)length;
    struct host_program h;
    int status;
    if (host_verify(&h, &profile, (struct code_insn *)bytes, (u32)count / 8))
        status = run(&profile, &h, memory, length, interpret);
    else {
        fprintf(stderr, "bpf-plugin: refused at instruction %u: %s\n", h.program->refused_at,
                h.program->refusal);
        status = 1;
    }
    host_free(&h);
    free(input);
    free(bytes);
    free(memory);
    return status;
}
