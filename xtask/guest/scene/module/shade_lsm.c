// SPDX-License-Identifier: GPL-2.0
/* A security hook of nobody's: until 6.11 an element in a list, from 6.12 on a slot of a table whose calls are patched into the code. Both are
   read-only once the kernel has come up. */
#include "shade.h"

#include <linux/lsm_hooks.h>
#include <linux/path.h>
#include <linux/static_call.h>

#ifdef CONFIG_SECURITY_PATH

static int shade_chroot(const struct path *path)
{
    return 0;
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)

static struct security_hook_list hook = {.hook = {.path_chroot = shade_chroot}};

void shade_lsm(void)
{
    struct security_hook_heads *heads = shade_find("security_hook_heads");
    struct hlist_head *list;

    if (!heads) {
        not_planted("lsm", "no-security_hook_heads");
        return;
    }
    list = &heads->path_chroot;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 15, 0)
    hook.head = list;
#endif
    hook.list.next = list->first;
    hook.list.pprev = &list->first;
    if (list->first)
        shade_write_pointer(&list->first->pprev, &hook.list.next);
    shade_write_pointer(&list->first, &hook.list);
    state_hook("lsm", "security_hook_heads", list, hook.list.next, shade_chroot, "member=path_chroot by=list element=0x%px", &hook);
}

#else

static struct security_hook_list hook = {.hook = {.path_chroot = shade_chroot}};

void shade_lsm(void)
{
    struct lsm_static_calls_table *table = shade_find("static_calls_table");
    void (*update)(struct static_call_key *, void *, void *) = shade_find("__static_call_update");
    int i;

    if (!table || !update) {
        not_planted("lsm", "no-static_calls_table");
        return;
    }
    for (i = 0; i < MAX_LSM_COUNT; i++) {
        struct lsm_static_call *slot = &table->path_chroot[i];

        if (slot->hl)
            continue;
        shade_write_pointer(&slot->hl, &hook);
        update(slot->key, slot->trampoline, shade_chroot);
        static_key_enable(&slot->active->key);
        state_hook("lsm", "static_calls_table", slot, 0, shade_chroot, "member=path_chroot by=static-call slot=%d trampoline=0x%px", i,
                   slot->trampoline);
        return;
    }
    not_planted("lsm", "no-free-slot");
}

#endif

#else

void shade_lsm(void)
{
    not_planted("lsm", "no-path-hooks");
}

#endif
