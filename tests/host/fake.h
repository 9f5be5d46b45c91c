/* A small fake machine for tests of the page array, capabilities and spaces: memory where the
 * kernel's direct map would be, one CPU, two environments that distrust each other, and users'
 * memory in one array. Each test begins with a new one (fake_start as its setup). */
#pragma once
#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/info.h"
#include "core/page.h"
#include "core/space.h"
#include "core/user.h"

#include <setjmp.h>

#include <cmocka.h>

#define PAGES 2048
#define ALICE 10 /* page numbers of the environments, and of the roots of their spaces */
#define BOB 11
#define ALICE_ROOT 12
#define BOB_ROOT 13
#define EXPOSED_PAGE 14
#define KERNEL_PAGE 15
#define FIRST 16 /* pages from here on are free at first */
#define ALL (RIGHT_READ | RIGHT_WRITE | RIGHT_OWN)

int fake_start(void **state);
void act_as(u32 env);
void *user(u64 bytes); /* users' memory, zeroed */
u32 take(u32 count);   /* pages of whoever acts */
/* A genuine capability for what has this name now, in users' memory. */
struct cap *cap_for(u8 type, u8 rights, u32 holder, u32 name, u32 count);
u64 chance(u64 below); /* the same numbers in each run */

/* Called when translations are flushed. */
extern void (*on_shootdown)(struct env *env, u64 va, u32 count);
extern u32 locks_held;
