/* The exposed pages that belong to the machine as a whole. */
#pragma once
#include "lib/base.h"

extern struct info *info; /* see struct info of the ABI */
