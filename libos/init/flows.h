/* What a manifest's flow means as conditions on packets. */
#pragma once
#include "init/manifest.h"

/* Receive: to this machine's address (and port); transmit: from it. Fragments belong to nobody. */
void flow_conditions(const struct manifest *m, const u8 mac[6], const struct manifest_flow *f,
                     struct flow_spec *spec);
