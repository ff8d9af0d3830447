/* Environments and command lines with odd content, and one that was written over. */
#include "scene.h"

extern char **environ;

static void with_odd_values(void *unused) {
    (void)unused;
    char *const args[] = {"/lab/scene", "resting", "", "two words", "\xff\xfe", NULL};
    char *const variables[] = {"SCENE_NAME=odd-environ", "EMPTY=",          "TWICE=1", "TWICE=2",    "no equals sign",
                               "=no name",               "EQUAL=a=b=c",     "LINES=one\ntwo", "UTF8=caf\xc3\xa9", "NOT_UTF8=\xff\x01",
                               "LAST=end",               NULL};
    execve("/lab/scene", args, variables);
    die("execve");
}

static void odd_environment(void) {
    char path[64];
    const pid_t child = spawn("starting", with_odd_values, NULL);
    snprintf(path, sizeof path, "/lab/out/.resting.%d", child);
    await(path);
    unlink(path);
    fact("environment", "pid=%d variables=11", child);
}

/* As servers do who show in `ps` what they are doing: the command line grows over the environment. */
static void over_it(void *unused) {
    (void)unused;
    char *const args[] = {"/lab/scene", "title", NULL};
    char *const variables[] = {"FIRST=a variable that will be written over", "SECOND=another one, in part", "THIRD=still whole", NULL};
    execve("/lab/scene", args, variables);
    die("execve");
}

static const char TITLE[] = "mailer: queue runner, 3 messages waiting for a host that does not answer";

/* Becomes the process whose title is written over; /init does not start it. */
static void title(void) {
    char path[64];
    FILE *in = fopen("/proc/self/stat", "re");
    char text[1024];
    if (!in || !fgets(text, sizeof text, in)) die("stat");
    fclose(in);
    /* Fields 48 and 49 of proc(5) are arg_start and arg_end; counted from behind the name, which is field 2. */
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 48; field++) at = strchr(at + 1, ' ');
    unsigned long long start, end;
    if (!at || sscanf(at, "%llu %llu", &start, &end) != 2) die("arg_start");
    if (end - start >= sizeof TITLE) die("a title that is too short");
    memcpy((void *)(uintptr_t)start, TITLE, sizeof TITLE);
    snprintf(path, sizeof path, "/lab/out/.resting.%d", getpid());
    if (!write_text(path, "")) die(path);
    prctl(PR_SET_NAME, "mailer");
    rest();
}

static void titled(void) {
    char path[64];
    const pid_t child = spawn("starting", over_it, NULL);
    snprintf(path, sizeof path, "/lab/out/.resting.%d", child);
    await(path);
    unlink(path);
    fact("title", "pid=%d text=%s", child, escaped_text(TITLE));
}

const struct actor TITLE_WRITER = {"title", title};

const struct actor ENVIRONMENT[] = {{"odd-environment", odd_environment}, {"titled", titled}, {0}};
