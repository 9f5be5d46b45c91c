/* Dates as HTTP writes them: RFC 9110 section 5.6.7. Days are counted from 1970-01-01; the
 * calendar is worked on in years that begin in March, so that a leap day is the last. */
#include "web/http_date.h"
#include <string.h>

static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char weekdays[] = "SunMonTueWedThuFriSat";
#define LAST_SECOND 253402300799 /* of the year 9999 */

struct day {
    u32 year, month, day; /* month and day count from 1 */
};

static u64 days_from(struct day d) {
    u64 year = d.year - (d.month <= 2);
    u64 era = year / 400, of_era = year % 400;
    u64 of_year = (153 * ((d.month + 9) % 12) + 2) / 5 + d.day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static struct day day_from(u64 days) {
    days += 719468;
    u64 era = days / 146097, rest = days % 146097;
    u64 year = (rest - rest / 1460 + rest / 36524 - rest / 146096) / 365;
    u64 of_year = rest - (365 * year + year / 4 - year / 100);
    u64 shifted = (5 * of_year + 2) / 153;
    struct day d = {.month = (u32)(shifted < 10 ? shifted + 3 : shifted - 9),
                    .day = (u32)(of_year - (153 * shifted + 2) / 5 + 1)};

    d.year = (u32)(year + era * 400 + (d.month <= 2));
    return d;
}

static void two(char *out, u64 n) {
    out[0] = (char)('0' + n / 10 % 10);
    out[1] = (char)('0' + n % 10);
}

void http_date_write(char *out, u64 seconds) {
    if (seconds > LAST_SECOND)
        seconds = LAST_SECOND;
    u64 days = seconds / 86400, rest = seconds % 86400;
    struct day d = day_from(days);

    memcpy(out, "Day, 00 Mon 0000 00:00:00 GMT", HTTP_DATE);
    memcpy(out, weekdays + (days + 4) % 7 * 3, 3);
    two(out + 5, d.day);
    memcpy(out + 8, months + (d.month - 1) * 3, 3);
    two(out + 12, d.year / 100);
    two(out + 14, d.year % 100);
    two(out + 17, rest / 3600);
    two(out + 20, rest / 60 % 60);
    two(out + 23, rest % 60);
}

/* ---- reading: a cursor over the text, and a flag that stays set after the first mistake */
struct reader {
    const char *at, *end;
    bool wrong;
};

static void expect(struct reader *r, const char *text) {
    for (; *text; text++)
        if (r->at == r->end || *r->at++ != *text) {
            r->wrong = true;
            return;
        }
}

static u32 number(struct reader *r, u32 digits) {
    u32 n = 0;

    while (digits--) {
        if (r->at == r->end || *r->at < '0' || *r->at > '9') {
            r->wrong = true;
            return 0;
        }
        n = n * 10 + (u32)(*r->at++ - '0');
    }
    return n;
}

static u32 month(struct reader *r) {
    for (u32 i = 0; i < 12 && r->end - r->at >= 3; i++)
        if (memcmp(r->at, months + i * 3, 3) == 0) {
            r->at += 3;
            return i + 1;
        }
    r->wrong = true;
    return 1;
}

static u64 time_of_day(struct reader *r) {
    u32 hour = number(r, 2);
    expect(r, ":");
    u32 minute = number(r, 2);
    expect(r, ":");
    u32 second = number(r, 2);

    if (hour > 23 || minute > 59 || second > 60)
        r->wrong = true;
    return hour * 3600 + minute * 60 + second;
}

/* "06 Nov 1994 08:49:37 GMT" and, with dashes and two digits, "06-Nov-94 08:49:37 GMT" */
static u64 rest_of_date(struct reader *r, bool old, struct day *d) {
    d->day = number(r, 2);
    expect(r, old ? "-" : " ");
    d->month = month(r);
    expect(r, old ? "-" : " ");
    d->year = number(r, old ? 2 : 4);
    if (old)
        d->year += d->year < 70 ? 2000 : 1900;
    expect(r, " ");
    u64 time = time_of_day(r);
    expect(r, " GMT");
    return time;
}

/* "Nov  6 08:49:37 1994" */
static u64 rest_of_asctime(struct reader *r, struct day *d) {
    d->month = month(r);
    expect(r, " ");
    if (r->at < r->end && *r->at == ' ') {
        r->at++;
        d->day = number(r, 1);
    } else {
        d->day = number(r, 2);
    }
    expect(r, " ");
    u64 time = time_of_day(r);
    expect(r, " ");
    d->year = number(r, 4);
    return time;
}

bool http_date_read(const char *text, u32 length, u64 *seconds) {
    struct reader r = {text, text + length, false};
    struct day d = {0, 1, 0};
    u64 time;

    while (r.at < r.end && *r.at != ' ') /* the day of the week says nothing new */
        r.at++;
    bool comma = r.at > text && r.at[-1] == ',';
    bool whole = comma && r.at - text > 4; /* written out: the form of RFC 850 */
    expect(&r, " ");
    time = comma ? rest_of_date(&r, whole, &d) : rest_of_asctime(&r, &d);
    if (r.wrong || r.at != r.end || d.day < 1 || d.day > 31 || d.year < 1970)
        return false;
    *seconds = days_from(d) * 86400 + time;
    return true;
}
