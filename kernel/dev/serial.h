/* The first serial port, as the machine's console. */
#pragma once
#include "lib/base.h"

void serial_init(void);            /* 115200 8N1, polled output */
void serial_begin(void);           /* received characters may raise an interrupt, once serial_listen(true) says so */
void serial_listen(bool on);       /* or they wait, and whoever sends is told to (RTS) */
void serial_write(const char *text, u32 length); /* all of it, not mixed with another CPU's */
int serial_read(void);             /* next received character, or -1 */
extern bool (*serial_interrupt)(void); /* called when characters wait; false: the rest of them has to */
