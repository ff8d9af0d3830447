/* Two processes that the module `shade` hides, and one whose credentials it changes: they tell it, by signals that it takes for itself, what
   shall become of them. It hides them when the witness says so. */
#include "scene.h"

#include "module/orders.h"
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

static bool has_shade(void) { return has_line("/proc/modules", "shade "); }

/* Our number in the first pid namespace is what the module knows. */
static bool order(int signal) {
    if (!has_shade()) {
        errno = ENOENT;
        return false;
    }
    return kill(getpid(), signal) == 0;
}

static int listener(unsigned short port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&where, sizeof where) || listen(fd, 4)) die("listener");
    return fd;
}

/* Out of the list of processes only; waits at the port that is not shown. */
static void lurker(void) {
    const int waits = listener(HIDDEN_PORT);
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(HIDDEN_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int calls = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(calls, (struct sockaddr *)&there, sizeof there)) die("connect");
    const int answers = accept(waits, NULL, NULL);
    if (answers < 0) die("accept");
    if (open("/data/loot.txt", O_RDWR | O_CREAT, 0600) < 0) die("loot.txt");
    if (!order(ORDER_UNLIST)) {
        not_planted("hidden-from-list");
        return;
    }
    fact("hidden-process", "pid=%d name=lurker tasks=0 idr=1 children=1", getpid());
    fact("hidden-port", "proto=tcp port=%d pid=%d fds=%d,%d,%d", HIDDEN_PORT, getpid(), waits, calls, answers);
}

/* Out of the list and out of the table of process numbers. */
static void phantom(void) {
    if (open("/data/plan.txt", O_RDWR | O_CREAT, 0600) < 0) die("plan.txt");
    if (!order(ORDER_UNNUMBER)) {
        not_planted("hidden-from-numbers");
        return;
    }
    fact("hidden-process", "pid=%d name=phantom tasks=0 idr=0 children=1", getpid());
}

/* A user who may do what root may, although /proc shows who he is. */
static void elevated(void) {
    if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000)) die("setresuid");
    if (!order(ORDER_ELEVATE)) {
        not_planted("elevated");
        return;
    }
    fact("creds", "pid=%d what=elevated uid=1000 subjective=0", getpid());
}

const struct actor HIDDEN[] = {{"lurker", lurker}, {"phantom", phantom}, {"elevated", elevated}, {0}};
