/* The environments that init has started, by their place in the manifest. */
#pragma once
#include "init/manifest.h"

struct child {
    s64 env; /* its name; 0: it does not run */
    struct cap cap;
    struct cap flow[MANIFEST_FLOWS]; /* init's own; they outlive the child */
    u32 restarts;
};
extern struct child child[MANIFEST_ENVS];
extern struct manifest manifest;
