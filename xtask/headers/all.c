// What a kernel's headers declare, for a compiler to lay out: see xtask/src/lab/headers.rs. Headers that
// a kernel does not have are left out.

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/fs.h>

#define MAYBE(header) __has_include(header)

#if MAYBE(<linux/maple_tree.h>)
#include <linux/maple_tree.h>
#endif
#if MAYBE(<linux/sched/mm.h>)
#include <linux/sched/mm.h>
#endif
#if MAYBE(<linux/xarray.h>)
#include <linux/xarray.h>
#endif
#if MAYBE(<linux/kernfs.h>)
#include <linux/kernfs.h>
#endif
#if MAYBE(<linux/bpf.h>)
#include <linux/bpf.h>
#endif

#include <linux/blkdev.h>
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/device.h>
#include <linux/elf.h>
#include <linux/fdtable.h>
#include <linux/ftrace.h>
#include <linux/interrupt.h>
#include <linux/ipc_namespace.h>
#include <linux/kallsyms.h>
#include <linux/key.h>
#include <linux/kprobes.h>
#include <linux/memcontrol.h>
#include <linux/mount.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/pci.h>
#include <linux/perf_event.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/security.h>
#include <linux/skbuff.h>
#include <linux/swap.h>
#include <linux/tty.h>
#include <linux/usb.h>
#include <linux/user_namespace.h>
#include <linux/utsname.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <net/ipv6.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/udp.h>
#include <asm/desc.h>
#include <asm/processor.h>
