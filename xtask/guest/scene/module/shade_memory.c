// SPDX-License-Identifier: GPL-2.0
#include "shade.h"

#include <linux/kprobes.h>
#include <linux/string.h>
#include <asm/special_insns.h>

static unsigned long (*lookup)(const char *);
static int (*size_offset)(unsigned long, unsigned long *, unsigned long *);

/* `endbr64`, and the form that the kernel gives it where no indirect branch goes. */
#define ENDBR 0xfa1e0ff3u
#define SEALED 0x001f0f66u
#define SEALED_LATER 0xd6401f0fu

static bool marks_target(const u8 *at)
{
    u32 word;

    memcpy(&word, at, sizeof(word));
    return word == ENDBR || word == SEALED || word == SEALED_LATER;
}

/* A probe may be placed by a name that no module may ask for. */
int shade_memory_init(void)
{
    struct kprobe probe = {.symbol_name = "kallsyms_lookup_name"};
    int error = register_kprobe(&probe);

    if (error)
        return error;
    lookup = (void *)probe.addr;
    if (marks_target((u8 *)probe.addr - 4))
        lookup = (void *)((u8 *)probe.addr - 4);
    unregister_kprobe(&probe);
    size_offset = shade_find("kallsyms_lookup_size_offset");
    return 0;
}

void *shade_find(const char *name)
{
    return (void *)lookup(name);
}

size_t shade_size(void *function)
{
    unsigned long size = 0, offset = 0;

    if (!size_offset || !size_offset((unsigned long)function, &size, &offset))
        return 0;
    return size;
}

u8 *shade_head(void *function)
{
    return marks_target(function) ? (u8 *)function + 4 : function;
}

static void set_cr0(unsigned long value)
{
    asm volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

/* The bit that makes the kernel heed its own read-only pages is off meanwhile. */
void shade_write(void *at, const void *from, size_t len)
{
    const u8 *bytes = from;
    unsigned long flags, before;
    size_t i;

    local_irq_save(flags);
    before = read_cr0();
    set_cr0(before & ~X86_CR0_WP);
    for (i = 0; i < len; i++)
        WRITE_ONCE(((u8 *)at)[i], bytes[i]);
    set_cr0(before);
    local_irq_restore(flags);
}

void shade_write_pointer(void *at, const void *value)
{
    shade_write(at, &value, sizeof(value));
}
