/* Open files of every kind, under names that nobody expects; a file that is open nowhere and only on its way between two
   processes; one of a mount that is no longer anywhere. */
#include "scene.h"

#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

/* Says of which kind a descriptor is; the guest's own /proc says the rest of it. */
static int held(int fd, const char *kind) {
    if (fd < 0) {
        char what[64];
        snprintf(what, sizeof what, "fd-%s", kind);
        not_planted(what);
        return fd;
    }
    fact("fd", "pid=%d fd=%d kind=%s inode=%llu", getpid(), fd, kind, inode_of(fd));
    return fd;
}

/* A file of which the kind says enough. */
static int file(const char *path, const char *kind) {
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) die(path);
    const char text[] = "what stands in a file\n";
    if (write(fd, text, sizeof text - 1) != sizeof text - 1) die(path);
    return held(fd, kind);
}

static void named(const char *path, size_t len) {
    const int fd = file(path, "odd-name");
    fact("name", "pid=%d fd=%d path=%s", getpid(), fd, escaped(path, len));
}

static void names(void) {
    const char *const odd[] = {"/data/two\nlines.txt", "/data/quo\"te' and blank.txt", "/data/not utf-8 \xff\xfe.txt",
                               "/data/escape \x1b[31m.txt", "/data/back\\slash.txt", "/data/looks so (deleted)"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) named(odd[i], strlen(odd[i]));
    /* Deeper than a name may be long. */
    char path[1024] = "/data/deep";
    size_t len = strlen(path);
    for (int i = 0; i < 12; i++) {
        len += (size_t)sprintf(path + len, "/directory-number-%02d-of-a-dozen", i);
        for (char *at = path + 1; (at = strchr(at, '/')); at++) {
            *at = 0;
            mkdir(path, 0755);
            *at = '/';
        }
        if (mkdir(path, 0755) && errno != EEXIST) die(path);
    }
    len += (size_t)sprintf(path + len, "/the end.txt");
    named(path, len);
    if (len <= 255) die("the path is not long enough");
}

static void files(void) {
    const int plain = file("/data/plain.txt", "regular");
    lseek(plain, 7, SEEK_SET);
    if (flock(plain, LOCK_EX)) die("flock");
    held(open("/data/plain.txt", O_WRONLY | O_APPEND | O_SYNC), "append");
    held(open("/data", O_RDONLY | O_DIRECTORY), "directory");
    file("/data/gone.txt", "deleted");
    unlink("/data/gone.txt");
    mkdir("/data/gone", 0755);
    held(open("/data/gone", O_RDONLY | O_DIRECTORY), "deleted-directory");
    rmdir("/data/gone");
    held(open("/data", O_RDWR | O_TMPFILE, 0600), "never-named");

    const int memory = held((int)syscall(SYS_memfd_create, "what nobody sees", 3 /* CLOEXEC, ALLOW_SEALING */), "memfd");
    if (memory >= 0 && write(memory, "in memory only", 14) != 14) die("memfd");
    /* memfd_secret: its pages are not in the kernel's own map. */
    held((int)syscall(447, 0), "memfd-secret");

    int ends[2];
    if (pipe(ends) || write(ends[1], "in a pipe", 9) != 9) die("pipe");
    held(ends[0], "pipe");
    held(ends[1], "pipe");
    if (mkfifo("/data/queue", 0644)) die("mkfifo");
    held(open("/data/queue", O_RDWR), "fifo");

    held(socket(AF_INET, SOCK_STREAM, 0), "socket-inet");
    held(socket(AF_INET6, SOCK_DGRAM, 0), "socket-inet6");
    held(socket(AF_UNIX, SOCK_STREAM, 0), "socket-unix");
    held(socket(AF_NETLINK, SOCK_RAW, 0), "socket-netlink");
    held(socket(AF_PACKET, SOCK_DGRAM, 0), "socket-packet");
    held(socket(40 /* AF_VSOCK */, SOCK_STREAM, 0), "socket-vsock");
    held(socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0), "socket-alg");
    held(socket(44 /* AF_XDP */, SOCK_RAW, 0), "socket-xdp");

    const int event = held(eventfd(7, 0), "eventfd");
    const int epoll = held(epoll_create1(0), "epoll");
    struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 0x1234};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &wanted) || epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted)) die("epoll_ctl");
    const int timer = held(timerfd_create(CLOCK_MONOTONIC, 0), "timerfd");
    const struct itimerspec when = {.it_interval.tv_sec = 86400, .it_value.tv_sec = 86400};
    if (timerfd_settime(timer, 0, &when, NULL)) die("timerfd_settime");
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    held(signalfd(-1, &signals, 0), "signalfd");
    const int watch = held(inotify_init1(0), "inotify");
    if (inotify_add_watch(watch, "/data", IN_CREATE) < 0) die("inotify_add_watch");
    const int mark = held(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify");
    if (mark >= 0 && fanotify_mark(mark, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/data/queue")) not_planted("fanotify-mark");
    held((int)syscall(SYS_pidfd_open, 1, 0), "pidfd");
    held((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), "userfaultfd");
    struct { uint32_t words[30]; } parameters = {{0}};
    held((int)syscall(425 /* io_uring_setup */, 4, &parameters), "io-uring");
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 2};
    strcpy(map.map_name, "held_by_fd");
    held((int)syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map), "bpf-map");

    held(open("/data/plain.txt", O_PATH), "o-path");
    held(open("/dev/null", O_RDWR), "char-device");
    held(open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_NONBLOCK), "tty");
    held(open("/dev/zram0", O_RDONLY), "block-device");
    held(open("/proc/1/maps", O_RDONLY), "proc-file");
    held(open("/proc/self/task", O_RDONLY | O_DIRECTORY), "proc-directory");
    held(open("/sys/kernel/uevent_seqnum", O_RDONLY), "sys-file");
    held(open("/proc/self/ns/net", O_RDONLY), "namespace-net");
    held(open("/proc/self/ns/mnt", O_RDONLY), "namespace-mnt");

    /* Beyond the first table of descriptors, and beyond the next one. */
    if (dup2(plain, 200) != 200 || dup2(event, 1000) != 1000) die("dup2");
    held(200, "regular");
    held(1000, "eventfd");
    names();

    mkdir("/data/inner", 0755);
    file("/data/inner/seen twice.txt", "regular");
    mkdir("/bound", 0755);
    if (mount("/data/inner", "/bound", NULL, MS_BIND, NULL)) die("bind mount");
    held(open("/bound/seen twice.txt", O_RDONLY), "through-bind-mount");
    fact("mount", "kind=bind path=/bound from=/data/inner");
}

/* Sends descriptors through a socket of its own, which nobody reads, and closes them. */
static void send_away(int through, int fd) {
    char byte = '!';
    struct iovec piece = {&byte, 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    if (sendmsg(through, &message, 0) != 1) die("sendmsg");
    close(fd);
}

static void inflight(void) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) die("socketpair");
    const int away = open("/data/on its way.txt", O_RDWR | O_CREAT, 0600);
    if (away < 0 || write(away, "nobody holds me\n", 16) != 16) die("on its way.txt");
    fact("in-flight", "kind=regular path=%s inode=%llu socket=%llu", escaped_text("/data/on its way.txt"), inode_of(away), inode_of(ends[1]));
    send_away(ends[0], away);
    const int udp = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(7007)};
    if (udp < 0 || bind(udp, (struct sockaddr *)&here, sizeof here)) die("udp");
    fact("in-flight", "kind=socket proto=udp lport=7007 inode=%llu socket=%llu", inode_of(udp), inode_of(ends[1]));
    send_away(ends[0], udp);
}

static void detached(void) {
    mkdir("/mnt/detached", 0755);
    if (mount("detached", "/mnt/detached", "tmpfs", 0, "size=64k")) die("mount");
    const int fd = file("/mnt/detached/adrift.txt", "detached");
    struct stat about;
    if (fstat(fd, &about)) die("fstat");
    if (umount2("/mnt/detached", MNT_DETACH)) die("umount2");
    fact("mount", "kind=detached was=/mnt/detached device=%#llx", (unsigned long long)about.st_dev);
}

const struct actor FILES[] = {{"files", files}, {"inflight", inflight}, {"detached", detached}, {0}};
