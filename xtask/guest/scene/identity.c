/* Programs that are not what they seem: one that calls itself a thread of the kernel and has no file, one whose file was deleted, one
   whose file is another one by now, one from memory under an honest name. All are copies of this program: `ACTOR resting` is what they run. */
#include "scene.h"

#include <sys/sysmacros.h>

extern char **environ;

static const char SELF[] = "/lab/scene";

static void copy_to(int to) {
    const int from = open(SELF, O_RDONLY | O_CLOEXEC);
    char block[16384];
    ssize_t len;
    if (from < 0 || to < 0) die("copying the program");
    while ((len = read(from, block, sizeof block)) > 0)
        if (write(to, block, (size_t)len) != len) die("write");
    close(from);
}

static void copy_file(const char *path) {
    const int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (to < 0) die(path);
    copy_to(to);
    close(to);
}

/* What a copy does: it says that it runs, by a file named for its process, and rests. */
static void resting(void) {
    const char *name = getenv("SCENE_NAME");
    char path[64];
    if (name) prctl(PR_SET_NAME, name);
    snprintf(path, sizeof path, "/lab/out/.resting.%d", getpid());
    if (!write_text(path, "")) die(path);
    rest();
}

struct start {
    int fd;
    const char *path, *shown, *name;
};

static void exec(void *argument) {
    const struct start *start = argument;
    char *const args[] = {(char *)start->shown, "resting", NULL};
    char variable[64];
    snprintf(variable, sizeof variable, "SCENE_NAME=%s", start->name);
    char *const variables[] = {"PATH=/bin:/lab", variable, NULL};
    if (start->path)
        execve(start->path, args, variables);
    else
        fexecve(start->fd, args, variables);
    die("execve");
}

/* Starts a copy and waits until it runs. */
static pid_t start(struct start how) {
    char path[64];
    const pid_t child = spawn("starting", exec, &how);
    snprintf(path, sizeof path, "/lab/out/.resting.%d", child);
    await(path);
    unlink(path);
    return child;
}

static void from_memory(void) {
    const int hidden = (int)syscall(SYS_memfd_create, "", 1 /* MFD_CLOEXEC */);
    if (hidden < 0) {
        not_planted("memfd-program");
        return;
    }
    copy_to(hidden);
    pid_t pid = start((struct start){.fd = hidden, .shown = "[kworker/u8:3]", .name = "kworker/u8:3"});
    fact("program", "pid=%d what=masquerade name=kworker/u8:3 inode=%llu", pid, inode_of(hidden));
    close(hidden);
    const int open_one = (int)syscall(SYS_memfd_create, "updater", 1);
    copy_to(open_one);
    pid = start((struct start){.fd = open_one, .shown = "/usr/lib/updater", .name = "updater"});
    fact("program", "pid=%d what=memfd name=updater inode=%llu", pid, inode_of(open_one));
    close(open_one);
}

static unsigned long long inode_at(const char *path) {
    struct stat about;
    if (stat(path, &about)) die(path);
    return about.st_ino;
}

static void from_files(void) {
    static const char GONE[] = "/tmp/.cache-helper", SWAPPED[] = "/usr/sbin/reportd";
    copy_file(GONE);
    const unsigned long long gone = inode_at(GONE);
    pid_t pid = start((struct start){.path = GONE, .shown = GONE, .name = "cache-helper"});
    unlink(GONE);
    fact("program", "pid=%d what=deleted path=%s inode=%llu", pid, GONE, gone);

    mkdir("/usr", 0755);
    mkdir("/usr/sbin", 0755);
    copy_file(SWAPPED);
    const unsigned long long old = inode_at(SWAPPED);
    pid = start((struct start){.path = SWAPPED, .shown = SWAPPED, .name = "reportd"});
    if (!write_file("/usr/sbin/.new", "#!/bin/sh\nexit 0\n", 17) || rename("/usr/sbin/.new", SWAPPED)) die("replacing");
    fact("program", "pid=%d what=replaced path=%s inode=%llu now=%llu", pid, SWAPPED, old, inode_at(SWAPPED));
}

static void identity(void) {
    from_memory();
    from_files();
}

/* A library that was put before all others. */
static void preloading(const char *name, const char *forget) {
    char *const args[] = {"/lab/scene", "resting", NULL};
    char *const variables[] = {"PATH=/bin:/lab", "LD_PRELOAD=/lib/lab-hook.so", (char *)forget, (char *)name, NULL};
    execve(SELF, args, variables);
    die("execve");
}

static void preload_plainly(void *unused) {
    (void)unused;
    preloading("SCENE_NAME=preloaded", "HOOK=stays");
}

/* The library wipes the variable that named it from the environment. */
static void preload_hidden(void *unused) {
    (void)unused;
    preloading("SCENE_NAME=preload-wiped", "HOOK=forget");
}

static void preloads(void) {
    static const struct {
        void (*run)(void *);
        const char *what;
    } BOTH[] = {{preload_plainly, "preload"}, {preload_hidden, "preload-wiped"}};
    for (int i = 0; i < 2; i++) {
        char path[64];
        const pid_t child = spawn("starting", BOTH[i].run, NULL);
        snprintf(path, sizeof path, "/lab/out/.resting.%d", child);
        await(path);
        unlink(path);
        fact("preload", "pid=%d what=%s path=/lib/lab-hook.so", child, BOTH[i].what);
    }
}

/* Not started by /init: it is what copies of this program do, and is left out of the list by its name. */
const struct actor RESTING = {"resting", resting};

const struct actor IDENTITY[] = {{"identity", identity}, {"preloads", preloads}, {0}};
