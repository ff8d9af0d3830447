/* Threads with names of their own, asleep in different places, one with descriptors of its own and one with another user's id. */
#include "scene.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static int g_pipe[2];
static uint32_t g_word = 1;
/* How many threads have stated themselves; they do so one after the other. */
static volatile int g_stated;

static pid_t stated(const char *name, const char *where) {
    const pid_t tid = (pid_t)syscall(SYS_gettid);
    prctl(PR_SET_NAME, name);
    fact("thread", "pid=%d tid=%d name=%s where=%s", getpid(), tid, escaped_text(name), where);
    return tid;
}

static void *in_futex(void *name) {
    stated(name, "futex");
    g_stated++;
    for (;;) syscall(SYS_futex, &g_word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    return NULL;
}

static void *in_read(void *name) {
    char byte;
    stated(name, "read");
    g_stated++;
    for (;;) (void)!read(g_pipe[0], &byte, 1);
    return NULL;
}

static void *in_sleep(void *name) {
    stated(name, "clock_nanosleep");
    g_stated++;
    for (;;) {
        const struct timespec day = {86400, 0};
        nanosleep(&day, NULL);
    }
    return NULL;
}

static void *in_epoll(void *name) {
    stated(name, "epoll_wait");
    const int fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, g_pipe[0], &event)) die("epoll");
    g_stated++;
    for (;;) epoll_wait(fd, &event, 1, -1);
    return NULL;
}

static void *with_own_files(void *name) {
    const pid_t tid = stated(name, "pause");
    if (unshare(CLONE_FILES)) die("unshare");
    const int fd = open("/data/only this thread.txt", O_RDWR | O_CREAT, 0600);
    if (fd < 0) die("a file of one thread");
    fact("fd", "pid=%d tid=%d fd=%d kind=own-table inode=%llu", getpid(), tid, fd, inode_of(fd));
    g_stated++;
    rest();
}

/* The library would change all threads. */
static void *with_own_id(void *name) {
    const pid_t tid = stated(name, "pause");
    if (syscall(SYS_setresuid, 1005, 1005, 1005)) die("setresuid");
    fact("creds", "pid=%d tid=%d what=one-thread uid=1005", getpid(), tid);
    g_stated++;
    rest();
}

static void threads(void) {
    static const struct {
        void *(*run)(void *);
        char name[16];
    } ALL[] = {{in_futex, ") 1 R 0"},      {in_read, "in read"},       {in_sleep, "two\nlines"},
               {in_epoll, "in epoll"},     {with_own_files, "own files"}, {with_own_id, "own id"}};
    enum { COUNT = sizeof ALL / sizeof ALL[0] };
    if (pipe(g_pipe)) die("pipe");
    for (int i = 0; i < COUNT; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, ALL[i].run, (void *)ALL[i].name)) die("pthread_create");
        while (g_stated <= i) nap(5);
    }
    nap(100);
}

const struct actor THREADS[] = {{"threads", threads}, {0}};
