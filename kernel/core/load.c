/* Loading programs (docs/code.md).
 *
 * The libOS gives two runs of its pages: one becomes the program, in the other it is verified. With
 * the first piece of the work both become CODE, which nobody maps, binds or has a device read, so
 * what the verifier and the translator see cannot change. All state is in these pages, under their
 * owner's lock; `where` of each is the first page of the program. The last piece seals the program:
 * the kernel may then execute its pages and no longer write to them.
 *
 * A page that can be sealed is one that the kernel maps by itself, not as a part of a large page:
 * info tells which they are, and the libOS allocates them by name. */
#include "core/load.h"

#include "code/code.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/info.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/shootdown.h"
#include "core/user.h"
#include "targe/call_table.h"
#include "x86/mmu.h"

#define STEPS 64 /* instructions that are verified or translated in one piece */

/* What the work pages begin with. The verifier's memory follows the instructions. */
struct work {
    struct code_spec spec;
    bool verified;
    struct code_jit jit; /* then */
    u64 size; /* of the verifier's memory */
    struct code_insn insn[];
};

static void *verifier_memory(struct work *w) { return &w->insn[w->spec.slots]; }

/* ---- pages */
static void to_data(u32 first, u32 count, bool used) {
    for (u32 i = 0; i < count; i++) {
        if (used)
            memset(page_ptr(first + i), 0, PAGE_SIZE);
        page_get(first + i)->where = 0;
        CHECK(page_retype(first + i, page_owner(page_get(first + i)), PAGE_CODE, PAGE_DATA, 0) == 0);
    }
}

static s64 to_code(u32 first, u32 count, u32 program) {
    s64 error = 0;

    for (u32 i = 0; i < count && !error; i++) {
        error = page_retype(first + i, current_env()->self, PAGE_DATA, PAGE_CODE, 0);
        if (error)
            to_data(first, i, false);
        else
            page_get(first + i)->where = program;
    }
    return error;
}

static void seal(u32 first, u32 count, bool sealed) {
    for (u32 i = 0; i < count; i++)
        memory_seal(first + i, sealed);
    shootdown_all((u64)page_ptr(first), count);
}

void load_release(u32 first) {
    struct program *p = page_ptr(first);
    u32 pages = p->pages, work = p->work, work_pages = p->work_pages;

    if (work)
        to_data(work, work_pages, true);
    else
        seal(first, pages, false);
    to_data(first, pages, true);
}

bool load_is_sound(u32 page) {
    struct page *p = page_get(page);
    const struct program *program = page_type(p) == PAGE_CODE ? page_ptr(p->where) : NULL;
    bool ready = program && !program->work && page - p->where < program->pages;
    return memory_bits(page) == (ready ? 0 : PTE_WRITE | mmu_nx);
}

/* ---- the pieces of the work */
static bool is_well_formed(const struct code_spec *s) {
    return s->slots && s->slots <= CODE_SLOTS && s->kind < code_profile_count && s->pages && s->pages <= CODE_RUN &&
           s->work_pages && s->work_pages <= PAGES_A_CALL && s->page - info->code_first < info->code_pages &&
           s->page + s->pages <= info->code_first + info->code_pages && s->work && s->work < page_count &&
           s->work_pages <= page_count - s->work && !s->zero && !s->zero2;
}

/* What the program is refused for, as the caller shall read it. */
static s64 refused(const struct code_program *program, struct code_spec *s) {
    s->refused_at = program->refused_at;
    memset(s->why, 0, sizeof s->why);
    for (u32 i = 0; i < sizeof s->why - 1 && program->refusal[i]; i++)
        s->why[i] = program->refusal[i];
    return E_REFUSED;
}

static s64 read_program(struct work *w, struct code_spec *s) {
    u64 room = s->work_pages * PAGE_SIZE, used = sizeof *w + s->slots * sizeof(struct code_insn);

    TRY(used > room ? E_FULL : user_read(w->insn, s->program, used - sizeof *w));
    w->spec = *s;
    s64 error = code_verify_start(&code_profiles[s->kind], w->insn, s->slots, verifier_memory(w), room - used);
    return error == E_BAD_ARGUMENT ? refused(verifier_memory(w), s) : error ? error : E_AGAIN;
}

static s64 begin(struct code_spec *s) {
    TRY(to_code(s->page, s->pages, s->page));
    s64 error = to_code(s->work, s->work_pages, s->page);
    if (error) {
        to_data(s->page, s->pages, false);
        return error;
    }
    u64 generation = page_new_generation();
    for (u32 i = 0; i < s->pages; i++)
        __atomic_store_n(&page_get(s->page + i)->generation, generation, __ATOMIC_SEQ_CST);
    *(struct program *)page_ptr(s->page) =
        (struct program){.pages = s->pages, .kind = s->kind, .work = s->work, .work_pages = s->work_pages};
    error = read_program(page_ptr(s->work), s);
    if (error != E_AGAIN)
        load_release(s->page);
    return error;
}

/* Translates the verified program and seals it. */
static s64 finish(struct work *w, struct program *p, const struct code_spec *s) {
    s64 size = code_jit_step(&w->jit, STEPS);

    if (size < 0) {
        if (size != E_AGAIN)
            load_release(s->page);
        return size;
    }
    to_data(s->work, s->work_pages, true);
    p->work = p->work_pages = 0;
    seal(s->page, s->pages, true);
    return 0;
}

static s64 go_on(struct work *w, struct program *p, struct code_spec *s) {
    if (w->verified)
        return finish(w, p, s);
    s64 error = code_verify_step(verifier_memory(w), STEPS);
    if (error == E_BAD_ARGUMENT) {
        error = refused(verifier_memory(w), s);
        load_release(s->page);
        return error;
    }
    w->verified = !error;
    if (w->verified)
        code_jit_start(&w->jit, verifier_memory(w), p->code, s->pages * PAGE_SIZE - sizeof *p);
    return E_AGAIN;
}

/* The load of this specification that is under way, or NULL. */
static struct work *under_way(const struct code_spec *s) {
    const struct page *page = page_get(s->page);
    const struct program *p = page_ptr(s->page);

    if (page_owner(page) != current_env()->self || page_type(page) != PAGE_CODE || page->where != s->page ||
        p->work != s->work)
        return NULL;
    struct work *w = page_ptr(s->work);
    bool same = w->spec.program == s->program && w->spec.slots == s->slots && w->spec.kind == s->kind &&
                w->spec.pages == s->pages && w->spec.work_pages == s->work_pages;
    return same ? w : NULL;
}

s64 call_code_load(u64 user) {
    struct code_spec s;
    struct env *env = current_env();

    TRY(user_read(&s, user, sizeof s));
    TRY(user_writable(user, sizeof s));
    if (!is_well_formed(&s))
        return E_BAD_ARGUMENT;
    env_lock(env);
    struct work *w = under_way(&s);
    s64 error = w ? go_on(w, page_ptr(s.page), &s) : begin(&s);
    env_unlock(env);
    if (error == E_REFUSED && user_write(user, &s, sizeof s))
        error = E_BAD_ADDRESS;
    return error;
}

s64 call_code_unload(u32 page) {
    struct env *env = current_env();
    struct page *p = page_get(page);
    s64 error = 0;

    env_lock(env);
    if (!p || page_owner(p) != env->self)
        error = E_NO_RIGHT;
    else if (page_type(p) != PAGE_CODE || p->where != page)
        error = E_WRONG_TYPE;
    else if (STATE_BINDINGS(page_state(p)))
        error = E_BUSY;
    else
        load_release(page);
    env_unlock(env);
    return error;
}
