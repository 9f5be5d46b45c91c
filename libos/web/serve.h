/* HTTP on TCP: accepts connections and ties each to an http.c connection. */
#pragma once
#include "tcp/tcp.h"

void serve_start(struct port *port, const struct tcp_config *config);
