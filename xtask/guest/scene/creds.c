/* Processes that are not plain root: other users, capabilities that are kept, no new privileges, seccomp, a user namespace. */
#include "scene.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/fsuid.h>

static void become(uid_t uid, gid_t gid) {
    if (setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) die("setresuid");
}

/* Real, effective, saved and file system id all differ; more groups than fit a line. */
static void ids(void) {
    gid_t groups[40];
    for (int i = 0; i < 40; i++) groups[i] = (gid_t)(3000 + 7 * i);
    if (setgroups(40, groups) || setresgid(2001, 2002, 2003) || setresuid(1001, 0, 1003)) die("ids");
    setfsuid(1004);
    fact("creds", "pid=%d what=ids uid=1001 euid=0 suid=1003 fsuid=1004 gid=2001 egid=2002 sgid=2003 groups=40", getpid());
}

/* A user with two capabilities, one of which is ambient, and with a smaller bounding set. */
static void capabilities(void) {
    if (prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT) || prctl(PR_SET_KEEPCAPS, 1)) die("prctl");
    become(1000, 1000);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    const uint32_t kept = 1u << CAP_NET_RAW | 1u << CAP_SYS_PTRACE;
    data[0].permitted = data[0].effective = kept;
    data[0].inheritable = 1u << CAP_NET_RAW;
    if (syscall(SYS_capset, &header, data)) die("capset");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0)) die("ambient");
    fact("creds", "pid=%d what=capabilities uid=1000 permitted=%#x effective=%#x inheritable=%#x ambient=%#x dropped=%d", getpid(), kept,
         kept, 1u << CAP_NET_RAW, 1u << CAP_NET_RAW, CAP_SYS_BOOT);
}

static void no_new_privileges(void) {
    become(1000, 1000);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs");
    fact("creds", "pid=%d what=no-new-privileges uid=1000 no_new_privs=1", getpid());
}

/* Two filters; both let everything pass but a call that nobody makes. */
static void filtered(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_swapoff, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs");
    for (int i = 0; i < 2; i++)
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
            not_planted("seccomp-filter");
            return;
        }
    fact("creds", "pid=%d what=seccomp-filter seccomp=2 filters=2 no_new_privs=1", getpid());
}

/* May read, write and end only, so it waits for a byte that never comes. */
static void strict(void) {
    int ends[2];
    char byte;
    if (pipe(ends)) die("pipe");
    fact("creds", "pid=%d what=seccomp-strict seccomp=1", getpid());
    ready();
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0)
        for (;;) (void)!read(ends[0], &byte, 1);
    rest();
}

static void wait_for(void *pipe_end) {
    char byte;
    if (read(*(int *)pipe_end, &byte, 1) != 1) die("read");
    become(0, 0);
    rest();
}

/* Root of a namespace in which the ids of others begin at 100000. */
static void user_namespace(void) {
    int ends[2];
    if (pipe(ends)) die("pipe");
    /* This process stays outside to write the map. */
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        forget_facts();
        prctl(PR_SET_NAME, "root-of-ns");
        if (unshare(CLONE_NEWUSER)) _exit(1);
        wait_for(&ends[0]);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", child);
    struct stat ours, theirs;
    if (stat("/proc/self/ns/user", &ours)) die("namespace");
    for (int tries = 0; stat(path, &theirs) == 0 && theirs.st_ino == ours.st_ino; tries++) {
        nap(20);
        if (waitpid(child, NULL, WNOHANG) || tries > 500) {
            not_planted("user-namespace");
            return;
        }
    }
    for (const char *const *map = (const char *const[]){"uid_map", "gid_map", NULL}; *map; map++) {
        snprintf(path, sizeof path, "/proc/%d/%s", child, *map);
        if (!write_text(path, "0 100000 65536")) die(path);
    }
    if (write(ends[1], "!", 1) != 1) die("write");
    snprintf(path, sizeof path, "/proc/%d/status", child);
    while (!has_line(path, "Uid:\t100000")) nap(20);
    fact("creds", "pid=%d what=user-namespace uid=100000 gid=100000 userns=%llu", child, (unsigned long long)theirs.st_ino);
}

const struct actor CREDS[] = {{"ids", ids},
                              {"capabilities", capabilities},
                              {"no-new-privs", no_new_privileges},
                              {"filtered", filtered},
                              {"strict", strict},
                              {"user-namespace", user_namespace},
                              {0}};
