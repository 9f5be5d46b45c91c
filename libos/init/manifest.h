/* The manifest: a plain-text list of the environments that init starts (docs/manifest.md). */
#pragma once
#include "base/start.h"
#include "spawn/spawn.h"

#define MANIFEST_ENVS 32
#define MANIFEST_FLOWS 8
#define MANIFEST_CPUS 8
#define MANIFEST_DEVICES 4

struct manifest_flow { u32 protocol, port, last; }; /* protocol: a START_FLOW; ports from port to last */

struct manifest_env {
    char name[16];
    char program[64];
    char arguments[256];
    u32 pages;     /* its guarantee */
    u32 limit;     /* what it may be given at most */
    struct spawn_slices slices[MANIFEST_CPUS];
    u32 slice_kinds;
    struct manifest_flow flow[MANIFEST_FLOWS];
    u32 flows;
    u32 device[MANIFEST_DEVICES]; /* vendor << 16 | device */
    u32 devices;
    u8 console; /* rights on it */
    bool site, power, trace, control, restart;
};

enum manifest_ask { ASK_FURTHEST, ASK_LARGEST, ASK_NOBODY };

struct manifest {
    u32 ask;         /* a manifest_ask: who gives memory back when it is needed */
    u32 deadline_ms; /* and within which time */
    u32 address, prefix, gateway; /* host order */
    struct manifest_env env[MANIFEST_ENVS];
    u32 envs;
};

/* NULL, or what is wrong; *line: where. */
const char *manifest_parse(const char *text, u64 bytes, struct manifest *to, u32 *line);
