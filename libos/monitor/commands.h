/* The monitor's commands. */
#pragma once
#include "monitor/sheet.h"

/* Carries out a line that was typed; what there is to say goes to the sheet. */
void command(struct sheet *s, const char *line);
/* True while an order to init is under way: then command_work is to be called now and then, and no
 * other command. It says on the sheet how the order ended. */
bool command_waits(void);
void command_work(struct sheet *s);
