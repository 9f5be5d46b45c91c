/* A port on Linux: a tap device, for developing and testing a network libOS as a process. */
#pragma once
#include "net/port.h"

/* Opens the tap device of this name. `checksum`: let the kernel compute and check sums, as a
 * virtio device does. NULL: it cannot be opened, and errno says why. */
struct port *port_tap_open(const char *name, const u8 mac[6], bool checksum);
/* Waits until a frame is there, or so long. */
void port_tap_wait(struct port *port, u32 ms);
