// SPDX-License-Identifier: GPL-2.0
/* An honest module, which uses what others abuse: function tracing, a probe, a tracepoint, netfilter, notifiers, files under /proc. */
#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/tracepoint.h>
#include <linux/version.h>
#include <net/net_namespace.h>

#define state(what, object, va, value, format, ...)                                                                                     \
    pr_info("fact honest module=lantern what=" what " object=%s va=0x%px value=0x%px " format "\n", object, (void *)(va), (void *)(value), \
            ##__VA_ARGS__)

#define not_planted(what) pr_info("fact not-planted what=honest-%s why=refused\n", what)

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
static void notrace lantern_trace(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *state)
#else
static void notrace lantern_trace(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct pt_regs *state)
#endif
{
}

static struct ftrace_ops tracing = {.func = lantern_trace};

static int before_probe(struct kprobe *probe, struct pt_regs *regs)
{
    return 0;
}

static struct kprobe probe = {.symbol_name = "__x64_sys_personality", .pre_handler = before_probe};

static void at_exec(void *data, struct task_struct *task, pid_t old, struct linux_binprm *program)
{
}

static struct tracepoint *found_point;

static void is_exec(struct tracepoint *point, void *unused)
{
    if (strcmp(point->name, "sched_process_exec") == 0)
        found_point = point;
}

static unsigned int pass(void *unused, struct sk_buff *packet, const struct nf_hook_state *state)
{
    return NF_ACCEPT;
}

static struct nf_hook_ops packets = {.hook = pass, .pf = NFPROTO_IPV4, .hooknum = NF_INET_POST_ROUTING, .priority = NF_IP_PRI_LAST};

static int listens(struct notifier_block *block, unsigned long event, void *data)
{
    return NOTIFY_DONE;
}

static struct notifier_block at_device = {.notifier_call = listens};

static int show(struct seq_file *out, void *unused)
{
    seq_puts(out, "nothing to hide\n");
    return 0;
}

static int work(void *unused)
{
    while (!kthread_should_stop())
        schedule_timeout_interruptible(MAX_SCHEDULE_TIMEOUT);
    return 0;
}

static int __init lantern_init(void)
{
    static char name[] = "__x64_sys_umask";
    struct task_struct *task;

    if (ftrace_set_filter(&tracing, name, sizeof(name) - 1, 0) || register_ftrace_function(&tracing))
        not_planted("ftrace");
    else
        state("ftrace", "__x64_sys_umask", &tracing, lantern_trace, "ipmodify=0");
    if (register_kprobe(&probe))
        not_planted("kprobe");
    else
        state("kprobe", "__x64_sys_personality", &probe, before_probe, "address=0x%px", probe.addr);
    for_each_kernel_tracepoint(is_exec, NULL);
    if (!found_point || tracepoint_probe_register(found_point, at_exec, NULL))
        not_planted("tracepoint");
    else
        state("tracepoint", "sched_process_exec", found_point, at_exec, "name=sched_process_exec");
    if (nf_register_net_hook(&init_net, &packets))
        not_planted("netfilter");
    else
        state("netfilter", "ipv4/post-routing", &packets, pass, "priority=%d", packets.priority);
    if (register_netdevice_notifier(&at_device))
        not_planted("notifier");
    else
        state("notifier", "netdev_chain", &at_device, listens, "priority=0");
    if (!proc_create_single("lantern", 0444, NULL, show))
        not_planted("proc-file");
    else
        state("seq-ops", "/proc/lantern", 0, show, "member=show");
    task = kthread_run(work, NULL, "lantern");
    if (IS_ERR(task))
        not_planted("kthread");
    else
        state("kthread", "lantern", task, work, "pid=%d", task->pid);
    return 0;
}

/* No exit: it stays. */
module_init(lantern_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Uses what others abuse, for tests that tell the two apart");
