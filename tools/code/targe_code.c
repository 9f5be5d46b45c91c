/* targe-code: verifies a program in an ELF object as the kernel would, and prints it with what was
 * found out, or why and where it is refused. `targe code` adds the source lines.
 *
 *     targe-code FILE.o [--profile NAME] [--section NAME] [--hex]
 *
 * The profile is the section's name, if there is one of this name, else `handler`. --hex prints the
 * bytes of the linked program only. Each line of the program begins with the section and the slot
 * in it, as in `handler:12`. */
#define _GNU_SOURCE
#include "host.h"
#include "code/verify.h"
#include "code/object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct listing {
    struct code_object object;
    struct host_program h;
    struct state *before; /* what is known before each instruction */
};

static int fail(const char *what, const char *about) {
    fprintf(stderr, "targe-code: %s%s%s\n", what, about ? ": " : "", about ? about : "");
    return 1;
}

static void *read_file(const char *name, u64 *size) {
    FILE *file = fopen(name, "rb");
    long end = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    u8 *bytes = end >= 0 ? malloc((size_t)end + 1) : NULL;
    if (bytes) {
        rewind(file);
        *size = fread(bytes, 1, (size_t)end, file);
    }
    if (file)
        fclose(file);
    return bytes;
}

/* ---------------------------------------------------------------- instructions as text */
static const char *alu_sign(const struct code_insn *i) {
    static const char *const sign[16] = {"+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=",
                                         "", "%=", "^=", "=", "s>>="};
    if (i->offset == 1)
        return bpf_code(i) == BPF_DIV ? "s/=" : "s%=";
    return sign[bpf_code(i) >> 4];
}

static void print_alu(const struct code_insn *i) {
    char r = bpf_class(i) == BPF_ALU ? 'w' : 'r';
    u8 code = bpf_code(i);
    if (code == BPF_NEG)
        printf("%c%u = -%c%u", r, i->dst, r, i->dst);
    else if (code == BPF_END)
        printf("r%u = %s%d r%u", i->dst,
               r == 'r' ? "bswap" : i->op & BPF_X ? "be" : "le", i->imm, i->dst);
    else if (!(i->op & BPF_X))
        printf("%c%u %s %d", r, i->dst, alu_sign(i), i->imm);
    else if (code == BPF_MOV && i->offset)
        printf("%c%u = (s%d)%c%u", r, i->dst, i->offset, r, i->src);
    else
        printf("%c%u %s %c%u", r, i->dst, alu_sign(i), r, i->src);
}

static void print_address(const struct code_insn *i, u8 reg) {
    printf("*(%c%u *)(r%u %c %d)", bpf_mode(i) == BPF_MEMSX ? 's' : 'u', bpf_size(i) * 8, reg,
           i->offset < 0 ? '-' : '+', abs(i->offset));
}

static void print_atomic(const struct code_insn *i) {
    const char *sign = alu_sign(&(struct code_insn){.op = (u8)(i->imm & 0xf0)});
    if (i->imm == BPF_XCHG)
        printf("r%u = xchg(", i->src);
    else if (i->imm == BPF_CMPXCHG)
        printf("r0 = cmpxchg(");
    else
        printf(i->imm & BPF_FETCH ? "r%u = fetch(" : "lock ", i->src);
    print_address(i, i->dst);
    if (i->imm == BPF_XCHG || i->imm == BPF_CMPXCHG)
        printf(i->imm == BPF_XCHG ? ", r%u)" : ", r0, r%u)", i->src);
    else
        printf(i->imm & BPF_FETCH ? " %s r%u)" : " %s r%u", sign, i->src);
}

static void print_jump(const struct listing *l, const struct code_insn *i, u32 at) {
    static const char *const sign[16] = {"", "==", ">", ">=", "&", "!=", "s>", "s>=",
                                         "", "", "<", "<=", "s<", "s<="};
    const struct code_profile *profile = l->h.program->profile;
    char r = bpf_class(i) == BPF_JMP32 ? 'w' : 'r';
    if (bpf_code(i) == BPF_EXIT) {
        printf("exit");
    } else if (bpf_is_local_call(i)) {
        printf("call %ld", (long)bpf_target(i, at));
    } else if (bpf_code(i) == BPF_CALL) {
        bool known = i->imm >= 1 && (u32)i->imm <= profile->helpers;
        printf("call helper %d %s", i->imm, known ? profile->helper[i->imm - 1].name : "?");
    } else {
        if (bpf_code(i) != BPF_JA && i->op & BPF_X)
            printf("if %c%u %s %c%u ", r, i->dst, sign[bpf_code(i) >> 4], r, i->src);
        else if (bpf_code(i) != BPF_JA)
            printf("if %c%u %s %d ", r, i->dst, sign[bpf_code(i) >> 4], i->imm);
        printf("goto %ld", (long)bpf_target(i, at));
    }
}

static void print_insn(const struct listing *l, u32 at) {
    const struct code_insn *i = &l->h.insn[at];
    if (i->op == BPF_LDDW)
        printf("r%u = 0x%lx", i->dst, (u64)(u32)i[1].imm << 32 | (u32)i->imm);
    else if (bpf_is_alu(i))
        print_alu(i);
    else if (bpf_is_jump(i))
        print_jump(l, i, at);
    else if (bpf_class(i) == BPF_STX && bpf_mode(i) == BPF_ATOMIC)
        print_atomic(i);
    else if (bpf_class(i) == BPF_LDX) {
        printf("r%u = ", i->dst);
        print_address(i, i->src);
    } else {
        print_address(i, i->dst);
        printf(bpf_class(i) == BPF_ST ? " = %d" : " = r%d",
               bpf_class(i) == BPF_ST ? i->imm : i->src);
    }
}

/* ---------------------------------------------------------------- what is known */
static void print_range(const struct value *v) {
    if (value_is_constant(v))
        printf("%ld", v->lo);
    else if (v->lo == INT64_MIN && v->hi == INT64_MAX)
        printf("any");
    else if (v->lo == INT64_MIN || v->hi == INT64_MAX)
        printf(v->hi == INT64_MAX ? ">= %ld" : "<= %ld", v->hi == INT64_MAX ? v->lo : v->hi);
    else
        printf("%ld..%ld", v->lo, v->hi);
}

static void print_value(const struct code_profile *profile, const struct value *v) {
    static const char *const kind[] = {"nothing", "", "", "stack", "context"};
    if (v->kind == VALUE_NUMBER && v->length)
        printf("length of %s, ", profile->window[v->length - 1].name);
    if (v->kind == VALUE_WINDOW)
        printf("%s", profile->window[v->window].name);
    else
        printf("%s", kind[v->kind]);
    if (v->kind == VALUE_NONE)
        return;
    if (v->kind != VALUE_NUMBER)
        printf(" + ");
    print_range(v);
}

/* Why an access is in bounds. */
static void print_access(const struct listing *l, u32 at, u8 reg) {
    const struct code_program *p = l->h.program;
    const struct code_mark *mark = &p->mark[at];
    const struct code_insn *i = &p->insn[at];
    if (!mark->window) {
        bool stack = reg == 10 || l->before[at].reg[reg].kind == VALUE_STACK;
        printf("%s: proved", stack ? "stack" : "context");
        return;
    }
    struct value v = l->before[at].reg[reg], by = value_number(i->offset, i->offset);
    value_move(&v, &by, false);
    const char *name = p->profile->window[mark->window - 1].name;
    printf("%s + ", name);
    print_range(&v);
    printf(", %u bytes", bpf_size(i));
    if (mark->check)
        printf(": checked in each run");
    else
        printf(": proved, %s has at least %u", name, l->before[at].minimum[mark->window - 1]);
}

static void print_note(const struct listing *l, u32 at) {
    const struct code_program *p = l->h.program;
    const struct code_insn *i = &p->insn[at];
    const struct state *s = &l->before[at];
    if (!(p->mark[at].flags & CODE_MARK_REACHED)) {
        printf("never reached");
    } else if (bpf_class(i) == BPF_LDX || bpf_class(i) == BPF_ST || bpf_class(i) == BPF_STX) {
        print_access(l, at, bpf_class(i) == BPF_LDX ? i->src : i->dst);
    } else if (bpf_is_branch(i)) {
        s64 target = bpf_target(i, at);
        if (bpf_code(i) != BPF_JA && i->dst < 10) {
            printf("r%u is ", i->dst);
            print_value(p->profile, &s->reg[i->dst]);
        }
        if (target <= at)
            printf("%sgoing back costs %ld", bpf_code(i) == BPF_JA ? "" : "; ",
                   (long)(at - target + 1));
    } else if (bpf_is_alu(i) && i->dst < 10 && bpf_code(i) != BPF_MOV) {
        printf("r%u was ", i->dst);
        print_value(p->profile, &s->reg[i->dst]);
    } else if (bpf_is_jump(i) && bpf_code(i) == BPF_EXIT) {
        printf("r0 is ");
        print_value(p->profile, &s->reg[0]);
    }
}

static void print_place(const struct listing *l, u32 at) {
    for (u32 n = 0; n < l->object.parts; n++) {
        const struct code_part *part = &l->object.part[n];
        if (at >= part->start && at - part->start < part->count)
            printf("%s:%u", part->name, at - part->start);
    }
}

static void print_program(const struct listing *l) {
    const struct code_program *p = l->h.program;
    for (u32 at = 0; at < p->count; at++) {
        if (p->mark[at].flags & CODE_MARK_INNER)
            continue;
        if (p->mark[at].flags & CODE_MARK_FUNCTION && at > 0)
            printf("function:\n");
        print_place(l, at);
        printf("\t%4u  ", at);
        print_insn(l, at);
        printf("\t; ");
        print_note(l, at);
        printf("\n");
    }
}

/* Whether the verifier had to leave the end of the program to the budget. */
static bool is_counted(const struct code_program *p) {
    for (u32 at = 0; at < p->count; at++) {
        if (p->mark[at].flags & CODE_MARK_HEAD || bpf_is_local_call(&p->insn[at]))
            return true;
    }
    return false;
}

static void print_summary(const struct listing *l) {
    const struct code_program *p = l->h.program;
    u32 proved = 0, checked = 0;
    for (u32 at = 0; at < p->count; at++) {
        proved += p->mark[at].window && !p->mark[at].check;
        checked += p->mark[at].check != 0;
    }
    printf("accepted\tprofile %s; %u slots, %u functions, %ld bytes of x86-64 code\n",
           p->profile->name, p->count, p->functions, (long)host_jit(l->h.program, NULL, 0));
    printf("windows\t%u accesses proved, %u checked in each run\n", proved, checked);
    if (is_counted(p))
        printf("budget\tat most %u instructions, counted in each run\n", p->profile->budget);
    else
        printf("budget\tat most %u instructions of %u: proved\n", p->count, p->profile->budget);
}

static void trace(void *owner, const struct code_verify *v) {
    struct listing *l = owner;
    l->before[v->at] = v->work;
}

static const struct code_profile *choose_profile(const char *name, const char *section) {
    const struct code_profile *profile = host_profile(name ? name : section);
    return profile || name ? profile : host_profile("handler");
}

/* Prints the program, or why there is none. Gives the exit status. */
static int show(struct listing *l) {
    const struct code_program *p = l->h.program;
    if (p->refusal) {
        printf("refused\t");
        print_place(l, p->refused_at);
        printf("\t%s\n", p->refusal);
        if (p->count && p->refused_at < p->count) {
            printf("at\t");
            print_insn(l, p->refused_at);
            printf("\n");
        }
        return 1;
    }
    print_program(l);
    print_summary(l);
    return 0;
}

static int verify(struct listing *l, const struct code_profile *profile, struct code_insn *insn) {
    l->before = calloc(l->object.count + 1, sizeof(*l->before));
    if (!l->before)
        return fail("no memory", NULL);
    host_verify_traced(&l->h, profile, insn, l->object.count, trace, l);
    int status = show(l);
    free(l->before);
    host_free(&l->h);
    return status;
}

int main(int argc, char **argv) {
    static struct code_insn insn[CODE_INSNS];
    static struct listing l;
    const char *file = NULL, *profile_name = NULL, *section = NULL;
    bool hex = false;
    for (int n = 1; n < argc; n++) {
        if (strcmp(argv[n], "--profile") == 0 && n + 1 < argc)
            profile_name = argv[++n];
        else if (strcmp(argv[n], "--section") == 0 && n + 1 < argc)
            section = argv[++n];
        else if (strcmp(argv[n], "--hex") == 0)
            hex = true;
        else if (file || argv[n][0] == '-')
            return fail("unexpected argument", argv[n]);
        else
            file = argv[n];
    }
    if (!file)
        return fail("which object?", NULL);
    u64 size = 0;
    void *object = read_file(file, &size);
    if (!object)
        return fail("cannot read", file);
    if (code_object_load(object, size, section, (u64 *)insn, CODE_INSNS, &l.object) != 0) {
        fail(l.object.refusal, l.object.symbol);
        free(object);
        return 1;
    }
    const struct code_profile *profile = choose_profile(profile_name, l.object.part[0].name);
    int status;
    if (!profile) {
        status = fail("no such profile", profile_name);
    } else if (hex) {
        for (u32 n = 0; n < l.object.count * sizeof(*insn); n++)
            printf("%02x%c", ((const u8 *)insn)[n], (n + 1) % 8 ? ' ' : '\n');
        status = 0;
    } else {
        status = verify(&l, profile, insn);
    }
    free(object);
    return status;
}
