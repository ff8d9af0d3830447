// SPDX-License-Identifier: GPL-2.0
/* Code that is changed: a jump at the head of a function, a jump within the function that dispatches system calls, and the code that a gate of the
   interrupt table leads to. And code that nobody owns. */
#include "shade.h"

#include <linux/mm.h>
#include <linux/notifier.h>
#include <linux/reboot.h>
#include <linux/vmalloc.h>
#include <asm/desc.h>
#include <asm/ptrace.h>

/* Nobody calls it while a scene plays. */
static asmlinkage long shade_swapoff(const struct pt_regs *regs)
{
    return -EPERM;
}

static void jump_to(u8 code[5], const void *at, const void *target)
{
    s32 distance = (s32)((long)target - ((long)at + 5));

    code[0] = 0xe9;
    memcpy(code + 1, &distance, sizeof(distance));
}

static void patch_head(void)
{
    u8 *function = shade_find("__x64_sys_swapoff");
    u8 before[5], after[5];
    u8 *at;

    if (!function) {
        not_planted("inline", "no-function");
        return;
    }
    at = shade_head(function);
    memcpy(before, at, 5);
    jump_to(after, at, shade_swapoff);
    shade_write(at, after, 5);
    state_hook("inline", "__x64_sys_swapoff", at, function, shade_swapoff, "function=0x%px bytes=%5phN now=%5phN", function, before, after);
}

static call_t real_ustat;

static asmlinkage long shade_ustat(const struct pt_regs *regs)
{
    return real_ustat(regs);
}

/* Where calls are dispatched by code, one of its jumps leads elsewhere. */
static void patch_dispatch(void)
{
    u8 *dispatch = shade_find("x64_sys_call");
    u8 *target = shade_find("__x64_sys_ustat");
    size_t size, i;

    if (!dispatch || !target) {
        not_planted("syscall-dispatch", "no-x64_sys_call");
        return;
    }
    real_ustat = (call_t)target;
    size = shade_size(dispatch);
    for (i = 1; i + 4 <= size; i++) {
        s32 distance;
        u8 first = dispatch[i - 1];
        bool is_branch = first == 0xe8 || first == 0xe9 || (i >= 2 && dispatch[i - 2] == 0x0f && (first & 0xf0) == 0x80);

        memcpy(&distance, dispatch + i, 4);
        if (!is_branch || dispatch + i + 4 + distance != target)
            continue;
        distance = (s32)((long)shade_ustat - (long)(dispatch + i + 4));
        shade_write(dispatch + i, &distance, 4);
        state_hook("syscall-dispatch", "x64_sys_call", dispatch + i, target, shade_ustat, "number=136 name=__x64_sys_ustat function=0x%px", dispatch);
        return;
    }
    not_planted("syscall-dispatch", "no-branch");
}

/* Begins with a jump to what the gate led to before; no interrupt comes by that number. */
static noinline notrace void shade_gate(void)
{
    asm volatile("nop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop");
}

enum { GATE = 0xd3 };

static void change_gate(void)
{
    gate_desc *table = shade_find("idt_table");
    gate_desc gate;
    unsigned long before, after = (unsigned long)shade_gate;
    u8 jump[5];

    if (!table) {
        not_planted("idt", "no-idt_table");
        return;
    }
    gate = table[GATE];
    before = gate_offset(&gate);
    jump_to(jump, shade_gate, (void *)before);
    shade_write(shade_gate, jump, 5);
    gate.offset_low = (u16)after;
    gate.offset_middle = (u16)(after >> 16);
    gate.offset_high = (u32)(after >> 32);
    shade_write(&table[GATE], &gate, sizeof(gate));
    state_hook("idt", "idt_table", &table[GATE], before, after, "vector=%d", GATE);
}

/* `endbr64; xor %eax, %eax; ret`: says NOTIFY_DONE. */
static const u8 NOTHING[] = {0xf3, 0x0f, 0x1e, 0xfa, 0x31, 0xc0, 0xc3};

static struct notifier_block from_nowhere = {.priority = 5};

/* Code in memory that belongs to no module: its loader could go away, and it would stay. */
static void orphan(void)
{
    int (*make_readonly)(unsigned long, int) = shade_find("set_memory_ro");
    int (*make_executable)(unsigned long, int) = shade_find("set_memory_x");
    u8 *at = vmalloc(PAGE_SIZE);

    if (!make_readonly || !make_executable || !at) {
        not_planted("orphan-code", "no-memory");
        return;
    }
    memset(at, 0xcc, PAGE_SIZE);
    memcpy(at, NOTHING, sizeof(NOTHING));
    if (make_readonly((unsigned long)at, 1) || make_executable((unsigned long)at, 1)) {
        not_planted("orphan-code", "refused");
        return;
    }
    pr_info("fact orphan-code va=0x%px len=0x%lx bytes=%*phN\n", at, PAGE_SIZE, (int)sizeof(NOTHING), NOTHING);
    from_nowhere.notifier_call = (void *)at;
    if (register_reboot_notifier(&from_nowhere))
        not_planted("notifier", "reboot-orphan");
    else
        state_hook("notifier", "reboot_notifier_list", &from_nowhere, 0, at, "priority=5 memory=none");
}

void shade_text(void)
{
    patch_head();
    patch_dispatch();
    change_gate();
    orphan();
}
