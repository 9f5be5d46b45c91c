/* A port on Linux: a tap device, for developing and testing a network libOS as a process. */
#pragma once
#include "net/port.h"

/* Opens the tap device of this name. `checksum`: let the kernel compute and check sums, as a
 * virtio device does. False: it cannot be opened, and errno says why. */
bool port_tap_open(const char *name, const u8 mac[6], bool checksum);
/* Waits until a frame is there, or so long. */
void port_tap_wait(u32 ms);
