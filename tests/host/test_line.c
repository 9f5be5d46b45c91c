/* The monitor's line editor, on a terminal of one row that understands what it sends. */
// sources: libos/monitor/line.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "monitor/line.h"

#define PROMPT "> "
#define COLUMNS 80

static struct line line;
static char row[COLUMNS + 1]; /* what is to be seen in the cursor's row */
static size_t column, bells;
static char entered[LINE_MOST + 1];
static int lines;

static void erase(size_t from) {
    memset(row + from, ' ', COLUMNS - from);
    row[COLUMNS] = 0;
}

static void show(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '\r') {
            column = 0;
        } else if (c == '\n') {
            column = 0;
            erase(0);
        } else if (c == '\b') {
            assert_true(column > 0);
            column--;
        } else if (c == '\a') {
            bells++;
        } else if (c == '\033') {
            if (length - i >= 3 && !memcmp(text + i, "\033[K", 3)) {
                erase(column);
                i += 2;
            } else {
                assert_memory_equal(text + i, "\033[H\033[2J", 7);
                column = 0;
                erase(0);
                i += 6;
            }
        } else {
            assert_in_range(c, ' ', '~');
            assert_true(column < COLUMNS - 1);
            row[column++] = c;
        }
    }
}

static int begin(void **state) {
    (void)state;
    memset(&line, 0, sizeof line);
    line.prompt = PROMPT;
    line.show = show;
    lines = 0;
    bells = column = 0;
    erase(0);
    line_begin(&line);
    return 0;
}

/* The row shows the prompt, the line and nothing else, with the cursor where it belongs. */
static void check_row(void) {
    char wanted[COLUMNS + 1];

    memset(wanted, ' ', COLUMNS);
    wanted[COLUMNS] = 0;
    memcpy(wanted, PROMPT, strlen(PROMPT));
    memcpy(wanted + strlen(PROMPT), line.text, line.length);
    assert_string_equal(row, wanted);
    assert_int_equal(column, strlen(PROMPT) + line.cursor);
    assert_int_equal(line.length, strlen(line.text));
    assert_true(line.length <= LINE_MOST && line.cursor <= line.length);
}

static void type(const char *keys, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (line_key(&line, keys[i])) {
            memcpy(entered, line.text, sizeof entered);
            lines++;
            line_begin(&line);
        }
        check_row();
    }
}

static void gives(const char *keys, const char *wanted) {
    int before = lines;

    type(keys, strlen(keys));
    type("\r", 1);
    assert_int_equal(lines, before + 1);
    assert_string_equal(entered, wanted);
}

static void test_editing(void **state) {
    (void)state;
    gives("envs", "envs");
    gives("hepX\x7f\033[Dl\b\033[Cl\033[D\033[D\033[D", "hepl");
    gives("ac\033[Db", "abc");
    gives("bc\001a", "abc");
    gives("bc\001a\005d", "abcd");
    gives("bc\033[Ha\033[Fd", "abcd");
    gives("bc\033OHa\033OFd", "abcd");
    gives("bc\033[1~a\033[4~d", "abcd");
    gives("abcd\033[D\033[D\013", "ab");
    gives("abcd\033[D\033[D\025", "cd");
    gives("abcd\001\033[3~", "bcd");
    gives("abcd\033[3~", "abcd");
    gives("abc\003d", "d");
    gives("abc\014d", "abcd");
    gives("\x7f\b\033[D\033[C\001\005\013\025", "");
}

static void test_unknown_keys(void **state) {
    (void)state;
    gives("a\033[15~\033[1;5Cb\033xc\t\006\xe4", "abc");
    gives("a\033\033[Db", "ba");
    type("\033[99999999999999999999~", 23);
    gives("", "");
}

static void test_returns(void **state) {
    (void)state;
    type("a\r\nb\nc\r", 7);
    assert_int_equal(lines, 3);
    assert_string_equal(entered, "c");
}

static void test_history(void **state) {
    (void)state;
    gives("one", "one");
    gives("two", "two");
    gives("two", "two"); /* kept once */
    gives("", "");
    gives("\033[A\033[A", "one");
    gives("new\033[A\033[A\033[B\033[B\033[B!", "new!");
    gives("\033[A\033[A\033[A\033[A\033[A\033[A\033[A?", "one?");
    for (char c = 'A'; c <= 'Z'; c++)
        gives((char[]){c, 0}, (char[]){c, 0});
    for (int i = 0; i < 40; i++)
        type("\033[A", 3);
    gives("", "K"); /* the sixteenth from the end */
}

static void test_full_line(void **state) {
    char text[LINE_MOST + 1];

    (void)state;
    memset(text, 'x', LINE_MOST);
    text[LINE_MOST] = 0;
    type(text, LINE_MOST);
    assert_int_equal(bells, 0);
    type("yyy", 3);
    assert_int_equal(bells, 3);
    gives("\001z\b", text);
}

static void test_random_keys(void **state) {
    static const char *const words[] = {"\033[A",  "\033[B", "\033[C", "\033[D", "\033[H", "\033[F",
                                        "\033[3~", "\x7f",   "\013",   "\025",   "\001",   "\005",
                                        "\r",      "ab",     "xyz",    "\033["};
    (void)state;
    srand(1);
    for (int i = 0; i < 200000; i++) {
        char any = (char)rand();
        const char *word = words[(unsigned)rand() % (sizeof words / sizeof words[0])];
        if (rand() % 8)
            type(word, strlen(word));
        else
            type(&any, 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_editing, begin),
        cmocka_unit_test_setup(test_unknown_keys, begin),
        cmocka_unit_test_setup(test_returns, begin),
        cmocka_unit_test_setup(test_history, begin),
        cmocka_unit_test_setup(test_full_line, begin),
        cmocka_unit_test_setup(test_random_keys, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
