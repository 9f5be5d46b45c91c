/* A stride scheduler (Waldspurger and Weihl, 1995) outside the kernel: it divides its own time slices
 * among other environments, in proportion to their tickets, by giving each slice away whole.
 *
 * Its arguments name them: `red:3 green:2 blue:1`. They have no slices of their own. Each has a pass, which
 * rises by its stride, 1 / tickets, with every slice that it gets; the lowest pass is next. */
#include "base/print.h"
#include "base/start.h"
#include "ipc/ipc.h"
#include "machine/machine.h"

#define CLIENTS 8
#define STRIDE1 (1u << 20)

static struct client {
    char name[16];
    u64 stride, pass;
    u32 env; /* 0: not found yet, or gone */
} client[CLIENTS];
static u32 clients;

static void read_clients(const char *text) {
    while (*text && clients < CLIENTS) {
        struct client *c = &client[clients];
        u32 length = 0, tickets = 0;
        for (; *text && *text != ':' && *text != ' '; text++)
            if (length < sizeof c->name - 1)
                c->name[length++] = *text;
        for (text += *text == ':'; *text >= '0' && *text <= '9'; text++)
            tickets = tickets * 10 + (u32)(*text - '0');
        for (; *text && *text != ' '; text++)
            ;
        text += *text == ' ';
        c->stride = STRIDE1 / (tickets ? tickets : 1);
        clients += length > 0;
    }
}

/* The environment of this name that lives, found in the kernel's list, which everybody may read. */
static u32 find(const char *name) {
    u32 number = machine_info()->first_env, steps = 0, found = 0;
    const struct env *env;

    for (; number && !found && steps++ < 64 && (env = machine_env(number)); number = env->next)
        if (env->state == ENV_LIVE && !strncmp((const char *)env->name, name, sizeof env->name))
            found = number;
    machine_forget();
    return found;
}

/* The lowest pass among those that can be given a slice; NULL: there is none. */
static struct client *next(void) {
    struct client *best = NULL;

    for (struct client *c = client; c < client + clients; c++)
        if (c->env && (!best || c->pass < best->pass))
            best = c;
    return best;
}

/* Whoever comes, at first or again, begins at the pass of the others: the past gives no credit. */
static void look_for_clients(void) {
    struct client *least = next();
    u64 pass = least ? least->pass : 0;

    for (struct client *c = client; c < client + clients; c++)
        if (!c->env && (c->env = find(c->name)))
            c->pass = pass;
}

int main(void) {
    read_clients(start_arguments());
    for (u64 slice = 0;; slice++) {
        if (slice % 1024 == 0)
            look_for_clients();
        struct client *c = next();
        if (!c) {
            sys_sleep(rt_tsc() + machine_info()->tsc_hz / 100, 0, 0);
            slice = (u64)-1;
            continue;
        }
        s64 error = ipc_give(c->env); /* comes back in the next slice */
        if (error == E_DEAD)
            c->env = 0;
        else
            c->pass += c->stride;
        if (error) /* it does not take slices now: it loses this one */
            sys_yield();
    }
}
