/* HTTP on lwIP: accepts connections on a port and ties each to an http.c connection. */
#pragma once
#include "targe/abi.h"
#include <stdbool.h>

/* Listens; false: lwIP has no room for it. */
bool serve_start(u16 port);
