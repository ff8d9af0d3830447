/* Processes that neither run nor merely sleep: ended and not waited for, stopped, traced, waiting uninterruptibly. */
#include "scene.h"

#include <sys/ptrace.h>

static void nothing(void *unused) {
    (void)unused;
    _exit(7);
}

static void zombie(void) {
    const pid_t child = spawn("not-buried", nothing, NULL);
    siginfo_t info;
    if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT)) die("waitid");
    fact("state", "pid=%d what=zombie state=Z parent=%d", child, getpid());
}

static void sleep_on(void *unused) {
    (void)unused;
    rest();
}

static void stopped(void) {
    const pid_t child = spawn("stands-still", sleep_on, NULL);
    int status;
    nap(50);
    if (kill(child, 19 /* SIGSTOP */) || waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status)) die("stopping");
    fact("state", "pid=%d what=stopped state=T parent=%d", child, getpid());
}

static void traced(void) {
    const pid_t child = spawn("is-watched", sleep_on, NULL);
    int status;
    nap(50);
    if (ptrace(PTRACE_ATTACH, child, NULL, NULL) || waitpid(child, &status, 0) != child) {
        not_planted("ptrace");
        return;
    }
    fact("state", "pid=%d what=traced state=t tracer=%d", child, getpid());
    /* Traced and running on. */
    const pid_t other = spawn("is-followed", sleep_on, NULL);
    nap(50);
    if (ptrace(PTRACE_SEIZE, other, NULL, NULL)) die("seize");
    fact("state", "pid=%d what=seized state=S tracer=%d", other, getpid());
}

/* The child of a vfork uses the memory of its parent, which waits for it. */
static void vforked(void) {
    static pid_t parent;
    parent = getpid();
    fact("state", "pid=%d what=vfork state=D", parent);
    const pid_t child = vfork();
    if (child < 0) die("vfork");
    if (child == 0) {
        fact("state", "pid=%d what=vfork-child state=S parent=%d", getpid(), parent);
        ready();
        rest();
    }
}

const struct actor STATES[] = {{"zombie", zombie}, {"stopped", stopped}, {"traced", traced}, {"vforked", vforked}, {0}};
