/* A line editor for a terminal of 80 columns that understands ANSI escape sequences. It knows of no
 * console: characters come in one by one, and what is to be shown goes to a function. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define LINE_MOST 64    /* characters in a line: with the prompt it fits into one row */
#define LINE_HISTORY 16 /* lines that can be called back */

struct line {
    const char *prompt;
    void (*show)(const char *text, size_t length);
    char text[LINE_MOST + 1]; /* ends with 0 */
    unsigned length, cursor;
    unsigned escape;   /* how far an escape sequence has come, and */
    unsigned number;   /* the number in it */
    bool after_return; /* the last character was a return: a line feed belongs to it */
    char history[LINE_HISTORY][LINE_MOST + 1];
    unsigned lines;            /* ever put in the history */
    unsigned back;             /* how far back the line on show is; 0: the one being typed */
    char typed[LINE_MOST + 1]; /* that one, while another is on show */
};

/* Shows the prompt of a new, empty line. */
void line_begin(struct line *l);
/* Takes a character. True: the line is complete and in l->text; line_begin must follow. */
bool line_key(struct line *l, char c);
/* Shows prompt and line again, after other text was printed. */
void line_redraw(struct line *l);
