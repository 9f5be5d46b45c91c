/* The editor redraws the whole row, except for a character typed at its end. */
#include "monitor/line.h"

#include <string.h>

#define CONTROL(letter) ((letter)&31)
#define DELETE 127
#define ESCAPE 27

enum { NO_ESCAPE, SEEN_ESCAPE, SEEN_BRACKET, SEEN_O };

static void show(struct line *l, const char *text) { l->show(text, strlen(text)); }

static void show_left(struct line *l, unsigned columns) {
    while (columns--)
        show(l, "\b");
}

void line_redraw(struct line *l) {
    show(l, "\r");
    show(l, l->prompt);
    show(l, l->text);
    show(l, "\033[K"); /* nothing of a longer line is left behind */
    show_left(l, l->length - l->cursor);
}

static void set_text(struct line *l, const char *text) {
    memmove(l->text, text, strlen(text) + 1);
    l->length = l->cursor = (unsigned)strlen(text);
}

void line_begin(struct line *l) {
    set_text(l, "");
    l->back = 0;
    show(l, l->prompt);
}

static void insert(struct line *l, char c) {
    if (l->length == LINE_MOST) {
        show(l, "\a");
        return;
    }
    memmove(l->text + l->cursor + 1, l->text + l->cursor, l->length - l->cursor + 1);
    l->text[l->cursor++] = c;
    if (l->cursor == ++l->length)
        l->show(&c, 1);
    else
        line_redraw(l);
}

/* Removes what lies between two places. */
static void remove_part(struct line *l, unsigned from, unsigned to) {
    memmove(l->text + from, l->text + to, l->length - to + 1);
    l->length -= to - from;
    l->cursor = from;
    line_redraw(l);
}

static void move(struct line *l, unsigned to) {
    if (to > l->length)
        return; /* also what lies left of the beginning */
    l->cursor = to;
    line_redraw(l);
}

static const char *from_history(const struct line *l, unsigned back) {
    return l->history[(l->lines - back) % LINE_HISTORY];
}

static void recall(struct line *l, unsigned back) {
    unsigned most = l->lines < LINE_HISTORY ? l->lines : LINE_HISTORY;

    if (back > most) /* also one before 0 */
        return;
    if (!l->back)
        memcpy(l->typed, l->text, sizeof l->typed);
    l->back = back;
    set_text(l, back ? from_history(l, back) : l->typed);
    line_redraw(l);
}

static void remember(struct line *l) {
    if (l->length && (!l->lines || strcmp(from_history(l, 1), l->text) != 0))
        memcpy(l->history[l->lines++ % LINE_HISTORY], l->text, sizeof l->text);
}

/* The last character of an escape sequence. */
static void special_key(struct line *l, char c) {
    bool delete = c == '~' && l->number == 3;

    if (c == 'A')
        recall(l, l->back + 1);
    else if (c == 'B')
        recall(l, l->back - 1);
    else if (c == 'C')
        move(l, l->cursor + 1);
    else if (c == 'D')
        move(l, l->cursor - 1);
    else if (c == 'H' || (c == '~' && (l->number == 1 || l->number == 7)))
        move(l, 0);
    else if (c == 'F' || (c == '~' && (l->number == 4 || l->number == 8)))
        move(l, l->length);
    else if (delete &&l->cursor < l->length)
        remove_part(l, l->cursor, l->cursor + 1);
}

/* Whether the character is part of an escape sequence. Sequences that mean nothing here are passed
 * over whole: parameters, then one character from @ to ~. */
static bool take_escape(struct line *l, char c) {
    if (c == ESCAPE) {
        l->escape = SEEN_ESCAPE;
        return true;
    }
    if (l->escape == NO_ESCAPE)
        return false;
    if (l->escape == SEEN_ESCAPE) {
        l->escape = c == '[' ? SEEN_BRACKET : c == 'O' ? SEEN_O : NO_ESCAPE;
        l->number = 0;
        return true;
    }
    if (c >= '0' && c <= '9')
        l->number = (l->number * 10 + (unsigned)(c - '0')) % 1000;
    if (c >= ' ' && c < '@')
        return true;
    l->escape = NO_ESCAPE;
    if (c < ' ')
        return false;
    special_key(l, c);
    return true;
}

static bool finish(struct line *l) {
    remember(l);
    show(l, "\n");
    return true;
}

/* A control character. True: the line is complete. */
static bool control_key(struct line *l, char c) {
    switch (c) {
    case '\r':
    case '\n':
        return finish(l);
    case '\b':
    case DELETE:
        if (l->cursor)
            remove_part(l, l->cursor - 1, l->cursor);
        break;
    case CONTROL('A'):
        move(l, 0);
        break;
    case CONTROL('E'):
        move(l, l->length);
        break;
    case CONTROL('K'):
        remove_part(l, l->cursor, l->length);
        break;
    case CONTROL('U'):
        remove_part(l, 0, l->cursor);
        break;
    case CONTROL('L'):
        show(l, "\033[H\033[2J");
        line_redraw(l);
        break;
    case CONTROL('C'): /* leaves the line as it is and begins another */
        show(l, "^C\n");
        line_begin(l);
        break;
    }
    return false;
}

bool line_key(struct line *l, char c) {
    bool second = l->after_return && c == '\n';

    l->after_return = c == '\r';
    if (second || take_escape(l, c))
        return false;
    if (c >= ' ' && c < DELETE) {
        insert(l, c);
        return false;
    }
    return (c > 0) && control_key(l, c);
}
