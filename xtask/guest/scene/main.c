/* One program for all actors of a scene: `scene KIND` becomes one, `scene --list` names them in the order in which /init
   starts them. */
#include "scene.h"

#include <stdarg.h>

static char g_facts[256 << 10];
static size_t g_len;
static const char *g_name = "";

static const struct actor *const ACTORS[] = {NET,      NETNS, FILES, CACHE,     CREDS, THREADS, STATES,
                                             IDENTITY, CODE,  SHELL, CONTAINER, BPF,   HIDDEN,  ENVIRONMENT};
enum { GROUPS = sizeof ACTORS / sizeof ACTORS[0] };

void fact(const char *kind, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const size_t room = sizeof g_facts - g_len;
    int len = snprintf(g_facts + g_len, room, "%s ", kind);
    if ((size_t)len < room) len += vsnprintf(g_facts + g_len + len, room - (size_t)len, format, args);
    va_end(args);
    if ((size_t)len + 1 >= room) die("facts: no room");
    g_len += (size_t)len;
    g_facts[g_len++] = '\n';
}

void not_planted(const char *what) {
    fact("not-planted", "what=%s why=%s", what, escaped_text(strerror(errno)));
    fprintf(stderr, "scene %s: %s: %s\n", g_name, what, strerror(errno));
}

const char *escaped(const void *text, size_t len) {
    enum { SLOTS = 8, ROOM = 12 << 10 };
    static char slots[SLOTS][ROOM];
    static unsigned next;
    char *out = slots[next++ % SLOTS], *at = out;
    for (size_t i = 0; i < len && at < out + ROOM - 4; i++) {
        const unsigned char byte = ((const unsigned char *)text)[i];
        if (byte <= ' ' || byte >= 0x7f || byte == '%')
            at += sprintf(at, "%%%02X", byte);
        else
            *at++ = (char)byte;
    }
    *at = 0;
    return out;
}

const char *escaped_text(const char *text) { return escaped(text, strlen(text)); }

void forget_facts(void) { g_len = 0; }

void ready(void) {
    char path[128], draft[136];
    snprintf(path, sizeof path, "/lab/out/scene.%s", g_name);
    snprintf(draft, sizeof draft, "%s.draft", path);
    if (!write_file(draft, g_facts, g_len) || rename(draft, path)) die(path);
}

void die(const char *what) {
    fprintf(stderr, "scene %s: %s: %s\n", g_name, what, strerror(errno));
    exit(1);
}

void rest(void) {
    for (;;) pause();
}

void nap(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR) {}
}

void await(const char *path) {
    while (access(path, F_OK)) nap(20);
}

pid_t spawn(const char *name, void (*run)(void *), void *argument) {
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child) return child;
    forget_facts();
    prctl(PR_SET_NAME, name);
    run(argument);
    _exit(1);
}

bool write_file(const char *path, const void *at, size_t len) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return false;
    bool good = true;
    for (size_t done = 0; good && done < len;) {
        const ssize_t wrote = write(fd, (const char *)at + done, len - done);
        good = wrote > 0;
        if (good) done += (size_t)wrote;
    }
    const int error = errno;
    close(fd);
    errno = error;
    return good;
}

bool write_text(const char *path, const char *text) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return false;
    const bool good = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    const int error = errno;
    close(fd);
    errno = error;
    return good;
}

unsigned long long inode_of(int fd) {
    struct stat about;
    if (fstat(fd, &about)) die("fstat");
    return about.st_ino;
}

void fill(void *at, size_t len, uint64_t seed) {
    unsigned char *bytes = at;
    for (size_t i = 0; i < len; i++) {
        if (i % 8 == 0) seed = seed * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (unsigned char)(seed >> (i % 8 * 8));
    }
}

bool has_line(const char *path, const char *prefix) {
    FILE *in = fopen(path, "re");
    char line[512];
    bool found = false;
    while (in && !found && fgets(line, sizeof line, in)) found = strncmp(line, prefix, strlen(prefix)) == 0;
    if (in) fclose(in);
    return found;
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "";
    /* Of others' making: they state nothing of their own. */
    if (strcmp(wanted, RESTING.name) == 0) RESTING.become();
    if (strcmp(wanted, TITLE_WRITER.name) == 0) TITLE_WRITER.become();
    for (int group = 0; group < GROUPS; group++) {
        for (const struct actor *actor = ACTORS[group]; actor->name; actor++) {
            if (strcmp(wanted, "--list") == 0) {
                puts(actor->name);
            } else if (strcmp(wanted, actor->name) == 0) {
                g_name = actor->name;
                prctl(PR_SET_NAME, actor->name);
                fact("actor", "name=%s pid=%d", actor->name, getpid());
                actor->become();
                ready();
                rest();
            }
        }
    }
    if (strcmp(wanted, "--list") == 0) return 0;
    fprintf(stderr, "scene: no actor \"%s\"; try --list\n", wanted);
    return 1;
}
