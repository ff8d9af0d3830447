/* SPDX-License-Identifier: GPL-2.0 */
/* `shade` does to a kernel what rootkits do, each thing once, and harmlessly: whatever it takes over it hands on. It states each thing in the
   kernel's log as `shade: fact KIND NAME=VALUE ...`, which the witness takes from there before the module hides. */
#pragma once

#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/version.h>

struct pt_regs;

/* The kernel's tables of system calls have functions of this type. */
typedef asmlinkage long (*call_t)(const struct pt_regs *);

/* A hook: `what` is the kind, `object` what was changed, `va` the place, which led to `before` and now leads to `after`. */
#define state_hook(what, object, va, before, after, format, ...)                                                                    \
    pr_info("fact hook module=shade what=" what " object=%s va=0x%px before=0x%px after=0x%px " format "\n", object, (void *)(va),   \
            (void *)(before), (void *)(after), ##__VA_ARGS__)

#define not_planted(what, why) pr_info("fact not-planted what=%s why=%s\n", what, why)

/* shade_memory.c: where things are, and writing to what is read-only. */
int shade_memory_init(void);
void *shade_find(const char *name);
void shade_write(void *at, const void *from, size_t len);
void shade_write_pointer(void *at, const void *value);
/* Where code begins behind what marks it as a target of indirect branches. */
u8 *shade_head(void *function);
size_t shade_size(void *function);

/* Each plants its part. */
void shade_text(void);
void shade_tables(void);
void shade_callbacks(void);
void shade_lsm(void);

/* shade_hide.c */
void shade_hide_init(void);
/* An order of orders.h for a process; false when it is none. */
bool shade_order(int signal, int pid, long *result);
bool shade_is_hiding(void);
