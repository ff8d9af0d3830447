/* A container: processes with a namespace of each kind, a root and a group of their own. */
#include "scene.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

static const char GROUP[] = "/sys/fs/cgroup/box.slice/box-7f3a.scope";

static int g_go[2], g_done[2];

static void say(int fd) {
    if (write(fd, "!", 1) != 1) die("write");
}

static void hear(int fd) {
    char byte;
    if (read(fd, &byte, 1) != 1) die("the other side of the container has gone");
}

static void worker(void *unused) {
    (void)unused;
    if (setresgid(33, 33, 33) || setresuid(33, 33, 33)) die("setresuid");
    rest();
}

/* The guest's own root cannot be pivoted, since it has no parent: what is mounted over it becomes the root, as programs do that leave an
   initramfs. */
static void enter_root(void) {
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("private");
    if (mount("box", "/ctr", "tmpfs", 0, "mode=755,size=4m")) die("tmpfs");
    const char *const folders[] = {"/ctr/bin", "/ctr/proc", "/ctr/tmp", "/ctr/etc", NULL};
    for (const char *const *folder = folders; *folder; folder++) mkdir(*folder, 0755);
    if (mount("/bin", "/ctr/bin", NULL, MS_BIND | MS_REC, NULL)) die("bind");
    if (mount("proc", "/ctr/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) not_planted("container-proc");
    write_text("/ctr/etc/hostname", "box\n");
    if (chdir("/ctr")) die("chdir");
    if (mount(".", "/", NULL, MS_MOVE, NULL)) not_planted("container-root-moved");
    if (chroot(".") || chdir("/")) die("chroot");
}

static void inside(void) {
    prctl(PR_SET_NAME, "box-init");
    if (sethostname("box", 3)) die("sethostname");
    enter_root();
    struct ifreq request = {.ifr_name = "lo"};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(fd, SIOCGIFFLAGS, &request)) die("lo");
    request.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &request)) die("lo");
    close(fd);
    const int waits = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(80)};
    if (bind(waits, (struct sockaddr *)&here, sizeof here) || listen(waits, 4)) die("listener");
    if (open("/tmp/inside.txt", O_RDWR | O_CREAT, 0600) < 0) die("inside.txt");
    spawn("box-worker", worker, NULL);
    nap(50);
    say(g_done[1]);
    rest();
}

static void container(void) {
    if (pipe2(g_go, O_CLOEXEC) || pipe2(g_done, O_CLOEXEC)) die("pipe");
    mkdir("/ctr", 0755);
    mkdir("/sys/fs/cgroup/box.slice", 0755);
    const bool has_group = mkdir(GROUP, 0755) == 0;
    if (!has_group) not_planted("cgroup");
    /* As fork, in new namespaces but that of groups, which begins where the process is: so that comes later. */
    const pid_t child = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWIPC | 17 /* SIGCHLD */,
                                       NULL, NULL, NULL, NULL);
    if (child < 0) die("clone");
    if (child == 0) {
        forget_facts();
        hear(g_go[0]);
        if (setresgid(0, 0, 0) || setresuid(0, 0, 0)) die("setresuid");
        if (unshare(CLONE_NEWCGROUP)) die("unshare");
        inside();
    }
    char path[96], text[32];
    for (const char *const *map = (const char *const[]){"uid_map", "gid_map", NULL}; *map; map++) {
        snprintf(path, sizeof path, "/proc/%d/%s", child, *map);
        if (!write_text(path, "0 100000 65536")) die(path);
    }
    if (has_group) {
        snprintf(path, sizeof path, "%s/cgroup.procs", GROUP);
        snprintf(text, sizeof text, "%d", child);
        if (!write_text(path, text)) die(path);
    }
    say(g_go[1]);
    hear(g_done[0]);
    fact("container", "pid=%d hostname=box uid=100000 cgroup=%s port=80 file=/tmp/inside.txt", child, has_group ? "/box.slice/box-7f3a.scope" : "/");
}

const struct actor CONTAINER[] = {{"container", container}, {0}};
