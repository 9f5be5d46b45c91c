/* Dates as HTTP writes them. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

#define HTTP_DATE 29 /* characters: "Sun, 06 Nov 1994 08:49:37 GMT" */

/* Writes exactly HTTP_DATE characters, and no end mark. Years are 1970 to 9999. */
void http_date_write(char *out, u64 seconds);
/* Reads the form above, or one of the two old ones; false: it is no date. */
bool http_date_read(const char *text, u32 length, u64 *seconds);
