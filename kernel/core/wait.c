/* Predicates are kept in a page of their environment that nobody can map meanwhile, with the words'
 * physical addresses in place of the user's. Each word's page is bound, so it stays what it is. */
#include "core/wait.h"

#include "core/cpu.h"
#include "core/env.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/user.h"

#define LEAST_TAG 16

s64 wait_bind_word(u64 at) {
    s64 page = at % 8 ? E_BAD_ARGUMENT : user_page(at);

    if (page < 0)
        return page;
    struct page *p = page_get((u32)page);
    if (!p || page_type(p) == PAGE_DEVICE || page_bind((u32)page, page_type(p)))
        return E_BAD_ADDRESS;
    if (user_page(at) != page) { /* another CPU has just unmapped it */
        page_unbind((u32)page);
        return E_BAD_ADDRESS;
    }
    return page << PAGE_SHIFT | (s64)(at % PAGE_SIZE);
}

static bool is_well_formed(const struct predicate *p) {
    if (!p->count || p->count > TERMS || p->zero)
        return false;
    for (u32 i = 0; i < p->count; i++) {
        const struct term *t = &p->term[i];
        if (t->tag < LEAST_TAG || t->tag >> 63 || !t->count || t->count > FACTORS || t->zero)
            return false;
        for (u32 n = 0; n < t->count; n++)
            if (t->factor[n].how > BELOW || t->factor[n].zero)
                return false;
    }
    return true;
}

/* Binds words until one fails; then `kept` says how many terms and factors to let go of. */
static s64 bind_words(struct predicate *kept) {
    u32 terms = kept->count;

    for (kept->count = 0; kept->count < terms;) {
        struct term *t = &kept->term[kept->count++];
        u32 factors = t->count;
        for (t->count = 0; t->count < factors; t->count++) {
            s64 word = wait_bind_word(t->factor[t->count].word);
            if (word < 0)
                return word;
            t->factor[t->count].word = (u64)word;
        }
    }
    return 0;
}

s64 wait_begin(const struct predicate *p, u32 page) {
    if (!is_well_formed(p))
        return E_BAD_ARGUMENT;
    env_lock(current_env()); /* under which alone pages change hands */
    s64 error = page_use(page, current_env()->self, PAGE_WAIT, 0);
    env_unlock(current_env());
    TRY(error);
    struct predicate *kept = page_ptr(page);
    *kept = *p;
    error = bind_words(kept);
    if (error)
        wait_end(page);
    return error;
}

void wait_end(u32 page) {
    const struct predicate *p = page_ptr(page);

    for (u32 i = 0; i < p->count; i++)
        for (u32 n = 0; n < p->term[i].count; n++)
            page_unbind(page_of_phys((phys){p->term[i].factor[n].word}));
    page_end_use(page, PAGE_WAIT, PAGE_DATA);
}

static bool holds(const struct factor *f) {
    u64 word = __atomic_load_n((const u64 *)phys_ptr((phys){f->word}), __ATOMIC_SEQ_CST);

    switch (f->how) {
    case IS: return word == f->value;
    case IS_NOT: return word != f->value;
    case ABOVE: return word > f->value;
    default: return word < f->value;
    }
}

u64 wait_evaluate(u32 page) {
    const struct predicate *p = page_ptr(page);

    for (u32 i = 0; i < p->count; i++) {
        u32 n = 0;
        while (n < p->term[i].count && holds(&p->term[i].factor[n]))
            n++;
        if (n == p->term[i].count)
            return p->term[i].tag;
    }
    return 0;
}

void wait_pages(u32 page, void (*bound)(u32 page, bool pin)) {
    const struct predicate *p = page_ptr(page);

    bound(page, false);
    for (u32 i = 0; i < p->count; i++)
        for (u32 n = 0; n < p->term[i].count; n++)
            bound(page_of_phys((phys){p->term[i].factor[n].word}), false);
}

/* The sleeper may be waking on another CPU: then this is some other page, with anything in it. */
bool wait_uses_taken(u32 wait) {
    const struct page *page = page_get(wait);
    const struct predicate *p = page && page_type(page) == PAGE_WAIT ? page_ptr(wait) : NULL;
    bool found = false;

    for (u32 i = 0; p && i < p->count && i < TERMS; i++)
        for (u32 n = 0; n < p->term[i].count && n < FACTORS; n++)
            found |= page_is_taken(page_of_phys((phys){p->term[i].factor[n].word}));
    return found;
}
