/* Orders (kill, start) go to init by control transfer and are carried out in its own time, so it
 * is asked now and then whether it has done. Whether an environment is gone is read from the
 * page array: mapping its page would keep it. */
#include "monitor/commands.h"

#include "base/control.h"
#include "base/print.h"
#include "base/start.h"
#include "base/wait.h"
#include "machine/machine.h"
#include "monitor/views.h"
#include "targe/names.h"

#define ORDER_MS 10000 /* as long an order may take */

static struct {
    u64 kind;      /* a control_order; 0: none is under way */
    bool accepted; /* init has it */
    u64 deadline;
    char name[16];
    u32 env;        /* KILL: its page, and */
    u64 generation; /* that page's generation, to know it again */
    u32 owned;      /* KILL: pages that it has */
    u32 free_pages; /* free before */
} order;

/* ---------------------------------------------------------------- orders */

/* Why an environment (0: none of the name is there) cannot be ordered so; NULL: it can. */
static const char *objection(u64 kind, u32 env) {
    if (kind == CONTROL_START)
        return env ? "it runs already" : NULL;
    if (!env)
        return "no environment has this name";
    if (env == start_item("control", 0)->a)
        return "it holds what the others were made of";
    return env == rt_self() ? "nobody could start the monitor again" : NULL;
}

static void begin_order(struct sheet *s, u64 kind, const char *name) {
    const char *verb = kind == CONTROL_KILL ? "kill" : "start";
    size_t length = strlen(name);

    if (!length || length >= sizeof order.name) {
        say(s, "%s needs the name of an environment (see envs)\n", verb);
        return;
    }
    if (!start_item("control", 0)) {
        say(s, "the manifest gives the monitor no 'control'\n");
        return;
    }
    memset(&order, 0, sizeof order);
    memcpy(order.name, name, length);
    order.env = env_find(name);
    const struct env *env = order.env ? machine_env(order.env) : NULL;
    order.owned = env ? env->pages : 0;
    machine_forget();
    const char *why = objection(kind, order.env);
    if (why) {
        say(s, "cannot %s %s: %s\n", verb, name, why);
        return;
    }
    order.generation = machine_pages()[order.env].generation;
    order.free_pages = machine_free_pages();
    order.deadline = deadline_in(ORDER_MS);
    order.kind = kind;
}

static bool is_gone(void) {
    const volatile struct page *page = &machine_pages()[order.env];

    return (u8)page->state != PAGE_ENV || page->generation != order.generation;
}

static void tell_kill(struct sheet *s) {
    if (is_gone())
        say(s, "%s is gone; it had %u pages, and %d more are free (%u in all)\n", order.name,
            order.owned, (int)(machine_free_pages() - order.free_pages),
            machine_free_pages());
    else
        say(s, "init could not destroy %s\n", order.name);
}

static void tell_start(struct sheet *s) {
    u32 page = env_find(order.name);
    const struct env *env = page ? machine_env(page) : NULL;

    if (env)
        say(s, "%s runs as environment %u with %u pages\n", order.name, page, env->pages);
    else
        say(s, "init did not start %s: is it in the manifest?\n", order.name);
}

/* Tells init: `kind`, or 0, which is no order and only asks whether it has done the last one
 * (then it is E_BAD_ARGUMENT). E_BUSY: it has something to do, or no context on this CPU. */
static s64 tell_init(u64 kind) {
    struct rt_message m = {.rdi = kind};

    memcpy(&m.rsi, order.name, 8);
    memcpy(&m.rdx, order.name + 8, 8);
    s64 error = rt_transfer((u32)start_item("control", 0)->a, TRANSFER_CALL, &m);
    return error ? error : (s64)m.rdi;
}

bool command_waits(void) { return order.kind != 0; }

void command_work(struct sheet *s) {
    s64 result = tell_init(order.accepted ? 0 : order.kind);

    if (result == E_BUSY && rt_tsc() < order.deadline)
        return;
    if (!result) {
        order.accepted = true;
        return;
    }
    if (result == E_BUSY)
        say(s, "init is still busy after %u s; it takes orders from CPU 0 only\n", ORDER_MS / 1000);
    else if (!order.accepted || result != E_BAD_ARGUMENT)
        say(s, "init refused: %s\n", error_name(result));
    else if (order.kind == CONTROL_KILL)
        tell_kill(s);
    else
        tell_start(s);
    order.kind = 0;
    machine_forget();
}

static void kill(struct sheet *s, const char *name) { begin_order(s, CONTROL_KILL, name); }
static void start(struct sheet *s, const char *name) { begin_order(s, CONTROL_START, name); }

/* ---------------------------------------------------------------- the machine as a whole */

/* The capability for the machine, if it has the right; the word is the manifest's name for that. */
static const struct cap *machine_cap(struct sheet *s, u8 right, const char *word) {
    const struct start_item *item = start_item("machine", 0);

    if (item && item->cap.rights & right)
        return &item->cap;
    say(s, "the manifest gives the monitor no '%s'\n", word);
    return NULL;
}

static void check(struct sheet *s, const char *argument) {
    const struct cap *machine = machine_cap(s, RIGHT_TRACE, "trace");

    (void)argument;
    if (!machine)
        return;
    s64 found = sys_check(machine);
    if (found < 0)
        say(s, "the check failed: %s\n", error_name(found));
    else
        say(s, "%lu contradictions found\n", (u64)found);
}

static void say_change(struct sheet *s, u64 now, u64 before) {
    say(s, "recorded:");
    say_kinds(s, now);
    say(s, "; before:");
    say_kinds(s, before);
    say(s, "\n");
}

static void set_trace(struct sheet *s, u64 mask) {
    const struct cap *machine = machine_cap(s, RIGHT_TRACE, "trace");
    s64 before = machine ? sys_trace_set(machine, mask) : 0;

    if (machine && before < 0)
        say(s, "it cannot be set: %s\n", error_name(before));
    else if (machine)
        say_change(s, mask, (u64)before);
}

/* After `on`: a number, or the names of kinds. */
static bool parse_mask(struct sheet *s, const char *text, u64 *mask) {
    if (parse_number(text, mask) || (*mask = find_kind(text)))
        return true;
    say(s, "trace on takes a mask of kinds (255: all), or one of");
    say_kinds(s, ~0ull);
    say(s, "\n");
    return false;
}

/* Whether text begins with the word; then *rest is what follows it. */
static bool begins_with(const char *text, const char *word, const char **rest) {
    size_t length = strlen(word);

    if (strncmp(text, word, length) != 0 || (text[length] && text[length] != ' '))
        return false;
    for (text += length; *text == ' '; text++)
        ;
    *rest = text;
    return true;
}

static void trace(struct sheet *s, const char *argument) {
    const char *rest;
    u64 mask;

    if (begins_with(argument, "on", &rest)) {
        if (parse_mask(s, rest, &mask))
            set_trace(s, mask);
    } else if (begins_with(argument, "off", &rest)) {
        if (*rest)
            say(s, "trace off takes nothing after it\n");
        else
            set_trace(s, 0);
    } else {
        begins_with(argument, "cpu", &argument);
        view_write(s, "trace", argument);
    }
}

static void end_machine(struct sheet *s, u32 how) {
    const struct cap *machine = machine_cap(s, RIGHT_POWER, "power");

    if (machine)
        say(s, "the machine goes on: %s\n", error_name(sys_machine_off(machine, how)));
}

static void poweroff(struct sheet *s, const char *argument) {
    (void)argument;
    end_machine(s, POWER_OFF);
}

static void reset(struct sheet *s, const char *argument) {
    (void)argument;
    end_machine(s, POWER_RESET);
}

/* ---------------------------------------------------------------- all */

static void help(struct sheet *s, const char *argument);

static const struct {
    const char *name;
    void (*run)(struct sheet *s, const char *argument);
    bool takes_argument;
    struct use use[3];
} commands[] = {
    {"trace", trace, true, {{"on KINDS", "record events: a mask (255: all) or a name, such as packet"},
                            {"off", "record nothing"}}},
    {"kill", kill, true, {{"NAME", "end an environment and free all that it has"}}},
    {"start", start, true, {{"NAME", "start one of the manifest's environments again"}}},
    {"check", check, false, {{"", "let the kernel hold its page array against everything else"}}},
    {"poweroff", poweroff, false, {{"", "switch the machine off"}}},
    {"reset", reset, false, {{"", "start the machine again; ends ./targe run"}}},
    {"help", help, true, {{"", "this list"}, {"COMMAND", "what is said here of one command"}}},
};

static void help(struct sheet *s, const char *argument) {
    const char *name = *argument ? argument : NULL;
    bool found = view_help(s, name);

    for (u32 i = 0; i < ARRAY_SIZE(commands); i++)
        if (!name || !strcmp(commands[i].name, name)) {
            say_uses(s, commands[i].name, commands[i].use);
            found = true;
        }
    if (!found)
        say(s, "there is no command '%s'; 'help' lists them\n", name);
    else if (!name)
        say(s, "Numbers may be hexadecimal: 0xff. The names of environments are listed by envs.\n");
}

/* Copies the line without blanks around it and with its first word apart. Returns what follows. */
static const char *divide(const char *line, char *room, size_t size) {
    size_t length;

    while (*line == ' ')
        line++;
    length = strlen(line);
    while (length && line[length - 1] == ' ')
        length--;
    length = length < size ? length : size - 1;
    memcpy(room, line, length);
    room[length] = 0;
    char *rest = room;
    while (*rest && *rest != ' ')
        rest++;
    while (*rest == ' ')
        *rest++ = 0;
    return rest;
}

void command(struct sheet *s, const char *line) {
    char word[128];
    const char *argument = divide(line, word, sizeof word);

    if (!*word)
        return;
    for (u32 i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i].name, word) != 0)
            continue;
        if (*argument && !commands[i].takes_argument)
            say(s, "%s takes nothing after it\n", word);
        else
            commands[i].run(s, argument);
        return;
    }
    if (!view_write(s, word, argument))
        say(s, "there is no command '%s'; 'help' lists them\n", word);
}
