/* What the boot loader says, and the steps of booting. */
#pragma once
#include "lib/base.h"

#define BOOT_PVH 1
#define BOOT_MULTIBOOT2 2
#define BOOT_RANGES 64
#define TRAMPOLINE_PAGE 8 /* where other CPUs begin, at 32 KiB */

struct range { u64 begin, end; };
struct boot {
    struct range ram[BOOT_RANGES]; /* usable memory, in pages' bounds */
    u32 ranges;
    struct range archive;          /* the boot archive; empty: none */
    u64 rsdp;                      /* 0: not known */
    char command_line[256];
};
extern struct boot boot;
extern u64 boot_tsc;

void boot_parse(u32 loader, u64 at); /* fills `boot`; panics when it makes no sense */
void memory_init(void);              /* the kernel's own page tables, the page array */
void memory_finish(void);            /* every page that is not taken is free from now on */
void smp_start(void);                /* starts the other CPUs */
u32 first_env_make(void);            /* before memory_finish: init's two first pages; its name */
void first_env_start(u32 env, u32 root_flow); /* after: loads it from the archive */
