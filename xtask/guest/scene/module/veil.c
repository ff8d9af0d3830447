// SPDX-License-Identifier: GPL-2.0
/* Hides itself from the list of modules and from nothing else, when `shade` says so. */
#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/rculist.h>
#include <linux/reboot.h>

static int listens(struct notifier_block *block, unsigned long event, void *data)
{
    return NOTIFY_DONE;
}

static struct notifier_block at_reboot = {.notifier_call = listens, .priority = 3};

/* What stands before us in the list: the list's head, once `shade` has left it. */
static struct list_head *neighbour;

/* Called with the lock of the list held. */
void veil_set(bool hide);
void veil_set(bool hide)
{
    if (hide) {
        neighbour = THIS_MODULE->list.prev;
        list_del_rcu(&THIS_MODULE->list);
    } else {
        list_add_rcu(&THIS_MODULE->list, neighbour);
    }
}

static int __init veil_init(void)
{
    int error = register_reboot_notifier(&at_reboot);

    if (error)
        return error;
    pr_info("fact hidden-module name=veil va=0x%px list=0 folder=1\n", THIS_MODULE);
    pr_info("fact hook module=veil what=notifier object=reboot_notifier_list va=0x%px before=0x0 after=0x%px priority=3\n", &at_reboot, listens);
    return 0;
}

module_init(veil_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hides from the list of modules, for tests of what finds modules");
