/* SipHash-2-4: a keyed hash for values that an outsider must not predict, such as initial
 * sequence numbers and the places of names in a hash table. */
#pragma once
#include "targe/abi.h"

u64 siphash(const u64 key[2], const void *data, u32 length);
