/* Capabilities are self-authenticating: the kernel keeps no list of them, only a key. A small
 * cache of verified ones on each CPU makes the second presentation a compare. */
#include "core/cap.h"

#include "core/cpu.h"
#include "core/env.h"
#include "core/page.h"
#include "core/siphash.h"
#include "core/user.h"
#include "targe/call_table.h"

static u64 key[2];

void cap_init(const u64 from[2]) {
    key[0] = from[0];
    key[1] = from[1];
}

/* The generation of the environment that a capability is tied to; 0: there is none. The tag covers it, so that one
 * who comes after in the same page cannot present what was the other's. */
static u64 holder_generation(u32 holder) {
    struct page *p = holder ? page_get(holder) : NULL;

    return p && page_type(p) == PAGE_ENV ? page_generation(p) : 0;
}

static u64 tag_of(const struct cap *c, u64 holder) {
    u64 word[4];

    memcpy(word, c, 24);
    word[3] = holder;
    return siphash24(key, word);
}

void cap_seal(struct cap *c, u64 generation, u64 holder) {
    c->generation = generation;
    c->tag = tag_of(c, holder);
    if (!c->holder) /* it is soon presented, most likely */
        this_cpu()->verified[c->tag % CAP_CACHE] = (struct verified){*c, 0};
}

static bool same(const struct cap *a, const struct cap *b) {
    const u64 *x = (const u64 *)a, *y = (const u64 *)b;

    return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

static NOINLINE bool learn(struct verified *cached, const struct cap *c, u64 generation) {
    this_cpu()->trace->cap_misses++;
    if (tag_of(c, holder_generation(c->holder)) != c->tag)
        return false;
    *cached = (struct verified){*c, generation};
    return true;
}

/* The tag is genuine. Also the first compare is over all 32 bytes and the holder's generation, so a cached entry
 * proves only exactly what was verified. The holder is who presents it, or nobody. */
static ALWAYS_INLINE bool genuine(const struct cap *c) {
    struct cpu *cpu = this_cpu();
    struct verified *cached = &cpu->verified[c->tag % CAP_CACHE];
    u64 generation = c->holder ? page_generation(page_get(c->holder)) : 0;

    if (likely(same(&cached->cap, c) && cached->holder_generation == generation)) {
        cpu->trace->cap_hits++;
        return true;
    }
    return learn(cached, c, generation);
}

static ALWAYS_INLINE s64 verify(const struct cap *c, u8 type, u8 rights, u32 env) {
    if (c->type != type || c->zero || (c->holder && c->holder != env) || !genuine(c))
        return E_BAD_CAPABILITY;
    return (c->rights & rights) == rights ? 0 : E_NO_RIGHT;
}
s64 cap_verify(const struct cap *c, u8 type, u8 rights, u32 env) { return verify(c, type, rights, env); }

static ALWAYS_INLINE s64 present(u64 user, u8 type, u8 rights, struct cap *out) {
    if (unlikely(!user_has(user, sizeof *out) || !user_words(user, (struct words *)out)))
        return E_BAD_ADDRESS;
    return verify(out, type, rights, current_env()->self);
}
s64 cap_present(u64 user, u8 type, u8 rights, struct cap *out) { return present(user, type, rights, out ? out : &(struct cap){0}); }

s64 cap_object(u64 user, u8 type, u8 rights, u8 object_type, u32 *name) {
    struct cap c;

    TRY(present(user, type, rights, &c));
    struct page *p = page_get(c.name);
    if (!p || page_type(p) != object_type || page_generation(p) != c.generation)
        return E_BAD_CAPABILITY;
    *name = c.name;
    return 0;
}

static bool covers(const struct cap *c, u32 name, u32 count) {
    return name >= c->name && (u64)name + count <= (u64)c->name + c->count;
}

s64 cap_pages(u64 user, u32 name, u32 count, u8 rights, u32 *owner) {
    struct cap c;

    if (likely(!user)) {
        *owner = current_env()->self;
        return page_owned(*owner, name, count);
    }
    TRY(cap_present(user, CAP_PAGE, rights, &c));
    if (!covers(&c, name, count))
        return E_BAD_CAPABILITY;
    if (!page_get(name))
        return E_BAD_ARGUMENT;
    *owner = page_owner(page_get(name));
    s64 error = page_owned(*owner, name, count);
    for (u32 i = 0; i < count && !error; i++)
        if (page_generation(page_get(name + i)) != c.generation)
            error = E_BAD_CAPABILITY;
    return error || *owner ? error : E_NO_RIGHT;
}

s64 cap_grant(u64 user, u8 type, u8 rights, u32 name, u32 count, u64 generation) {
    struct cap c = {.type = type, .rights = rights, .name = name, .count = count};

    if (!user)
        return 0;
    cap_seal(&c, generation, 0);
    return user_write(user, &c, sizeof c);
}

/* Of what one owns. The machine and the console are owned by nobody. */
static const u8 all_rights[CAP_MACHINE + 1] = {
    [CAP_PAGE] = RIGHT_READ | RIGHT_WRITE | RIGHT_OWN,
    [CAP_FLOW] = RIGHT_READ | RIGHT_WRITE | RIGHT_OWN,
    [CAP_ENV] = RIGHT_OWN | RIGHT_MANAGE,
};

/* By ownership: what the caller owns, it may hand out in full. */
static s64 derive_owned(struct cap *want) {
    u32 owner;
    struct page *p = page_get(want->name);

    if (want->count > DERIVED_PAGES)
        return E_BAD_ARGUMENT;
    want->generation = p ? page_generation(p) : 0; /* before it is known what the page is */
    if (want->rights & ~all_rights[want->type])
        return E_NO_RIGHT;
    if (want->type == CAP_ENV) {
        if (want->count != 1 || (want->name != current_env()->self && !env_is_child(want->name)))
            return E_NO_RIGHT;
    } else {
        TRY(cap_pages(0, want->name, want->count, 0, &owner));
        if (want->type == CAP_FLOW && (want->count != 1 || page_type(p) != PAGE_FLOW))
            return E_BAD_ARGUMENT;
        for (u32 i = 1; i < want->count; i++)
            if (page_generation(page_get(want->name + i)) != want->generation)
                return E_BAD_ARGUMENT;
    }
    return 0;
}

static s64 derive_from(u64 from, struct cap *want) {
    struct cap c;

    TRY(cap_present(from, want->type, want->rights, &c));
    if (!covers(&c, want->name, want->count) || !want->count)
        return E_BAD_CAPABILITY;
    if (c.holder && want->holder != c.holder)
        return E_NO_RIGHT;
    if (c.type != CAP_CONSOLE && c.type != CAP_MACHINE) {
        struct page *p = page_get(want->name);
        if (!p || page_generation(p) != c.generation)
            return E_BAD_CAPABILITY;
    }
    want->generation = c.generation;
    return 0;
}

s64 call_cap_derive(u64 from, u64 want) {
    struct cap c;

    TRY(user_read(&c, want, sizeof c));
    if (c.zero || c.type < CAP_PAGE || c.type > CAP_MACHINE)
        return E_BAD_ARGUMENT;
    u64 holder = !c.holder ? 0 : c.holder == current_env()->self ? page_generation(page_get(c.holder)) : c.generation;

    TRY(from ? derive_from(from, &c) : derive_owned(&c));
    if (c.holder && (!holder || holder_generation(c.holder) != holder))
        return E_BAD_ARGUMENT;
    cap_seal(&c, c.generation, holder); /* whoever has the holder's page by now cannot present it */
    return user_write(want, &c, sizeof c);
}
