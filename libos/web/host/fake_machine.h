/* The made-up machine of the host build. */
#pragma once
#include "targe/abi.h"

void fake_machine_start(u32 archive_pages);
