// What the witness of a scene adds: all that the guest's own /proc, its log and bpf(2) say about the things that are planted, and the facts that
// those state who planted them.
//
// A module hides a few of them. It does so by the witness's order, and shows them again when something has changed and everything is looked at
// once more: so what the host gets is the truth from before the hiding, and each round proves that the rest of it still holds.
#include "../witness.h"

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#include <csignal>
#include <dirent.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "module/orders.h"

namespace witness::scene {

namespace {

constexpr size_t MAX_FACTS = 1 << 20;
constexpr size_t MAX_NAMESPACES = 16;
constexpr int MAX_HIDDEN = 8;

// What programs stated. Those of modules are in the log.
char g_facts[MAX_FACTS];
size_t g_facts_len;

int g_hidden[MAX_HIDDEN];
int g_hidden_count;

int g_log = -1;
uint64_t g_records;

bool begins(const char* text, const char* prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

// The next line; null behind the last one.
const char* next_line(const char* line) {
    const char* end = strchr(line, '\n');
    return end && end[1] ? end + 1 : nullptr;
}

size_t line_len(const char* line) { return strcspn(line, "\n"); }

// The value of a field of a fact, up to the next blank; empty where there is none.
const char* field(const char* line, const char* name, char* into, size_t room) {
    const size_t len = line_len(line);
    const size_t name_len = strlen(name);
    into[0] = 0;
    for (size_t at = 0; at + name_len + 1 < len; at++) {
        if (line[at] != ' ' || strncmp(line + at + 1, name, name_len) != 0 || line[at + 1 + name_len] != '=') continue;
        const char* value = line + at + name_len + 2;
        const size_t value_len = strcspn(value, " \n");
        if (value_len < room) {
            memcpy(into, value, value_len);
            into[value_len] = 0;
        }
        break;
    }
    return into;
}

void collect_facts() {
    DIR* dir = opendir("/lab/out");
    if (!dir) return;
    while (const dirent* entry = readdir(dir)) {
        if (!begins(entry->d_name, "scene.")) continue;
        char path[320];
        snprintf(path, sizeof path, "/lab/out/%s", entry->d_name);
        const ssize_t len = slurp(path, g_facts + g_facts_len, sizeof g_facts - g_facts_len);
        if (len > 0) g_facts_len += static_cast<size_t>(len);
    }
    closedir(dir);
    g_facts[g_facts_len] = 0;
    for (const char* line = g_facts; line; line = next_line(line)) {
        char pid[16];
        if (begins(line, "hidden-process ") && g_hidden_count < MAX_HIDDEN) g_hidden[g_hidden_count++] = atoi(field(line, "pid", pid, sizeof pid));
    }
}

// All of the log, in the order of /dev/kmsg; a record is a line, with lines that begin with a blank below it.
size_t read_log() {
    size_t len = 0;
    lseek(g_log, 0, SEEK_SET);
    g_records = 0;
    for (;;) {
        const ssize_t got = read(g_log, g_out + len, sizeof g_out - len);
        // Records can be overwritten while they are read; the next one is there.
        if (got < 0 && errno == EPIPE) continue;
        if (got <= 0) break;
        len += static_cast<size_t>(got);
        g_records++;
    }
    return len;
}

// Lines of facts among the log's records: `PRIORITY,SEQUENCE,TIME,FLAGS;MODULE: fact KIND ...`.
size_t facts_of_log(size_t log_len, char* into, size_t room) {
    size_t len = 0;
    g_out[log_len < sizeof g_out ? log_len : sizeof g_out - 1] = 0;
    for (const char* line = log_len ? g_out : nullptr; line; line = next_line(line)) {
        const char* text = strchr(line, ';');
        const char* mark = text ? strstr(text, ": fact ") : nullptr;
        const char* end = line + line_len(line);
        if (!mark || mark >= end || mark - text > 16) continue;
        mark += strlen(": fact ");
        const size_t fact = static_cast<size_t>(end - mark) + 1;
        if (len + fact > room) break;
        memcpy(into + len, mark, fact);
        len += fact;
    }
    return len;
}

void send_facts(unsigned generation) {
    const size_t log = read_log();
    send_file(generation, "kmsg", g_out, log);
    memcpy(g_file, g_facts, g_facts_len);
    const size_t len = g_facts_len + facts_of_log(log, g_file + g_facts_len, sizeof g_file - g_facts_len);
    send_file(generation, "facts", g_file, len);
    // Files that actors want to be kept.
    for (const char* line = g_facts; line; line = next_line(line)) {
        char path[128], name[128];
        if (!begins(line, "file ")) continue;
        const ssize_t size = slurp(field(line, "path", path, sizeof path), g_out, sizeof g_out);
        if (size >= 0) send_file(generation, field(line, "as", name, sizeof name), g_out, static_cast<size_t>(size));
    }
}

void visit_file(Digest& digest, const char* path, const char* name, unsigned generation, bool is_stable) {
    const ssize_t len = slurp(path, g_file, sizeof g_file);
    if (len < 0) return;
    if (is_stable) digest.add(g_file, static_cast<size_t>(len));
    if (generation) send_file(generation, name, g_file, static_cast<size_t>(len));
}

// The first word of each line.
void digest_words(Digest& digest, const char* text) {
    for (const char* line = text; line && *line; line = next_line(line)) {
        digest.add(line, strcspn(line, " \n"));
        digest.add("\n");
    }
}

// The words of a line, from 0.
size_t words_of(const char* line, const char** words, size_t* lens, size_t room) {
    size_t count = 0;
    const char* at = line;
    for (;;) {
        while (*at == ' ' || *at == '\t') at++;
        if (*at == 0 || *at == '\n' || count == room) return count;
        words[count] = at;
        lens[count] = strcspn(at, " \t\n");
        at += lens[count++];
    }
}

constexpr const char* NET_FILES[] = {"tcp",     "tcp6",   "udp", "udp6",     "udplite", "udplite6",   "raw", "raw6",     "unix",
                                     "netlink", "packet", "dev", "if_inet6", "route",   "ipv6_route", "arp", "fib_trie", "ptype"};

// Traffic is counted in there.
bool counts(const char* file) { return strcmp(file, "dev") == 0 || strcmp(file, "ipv6_route") == 0 || strcmp(file, "fib_trie") == 0; }

bool is_table(const char* file) { return begins(file, "tcp") || begins(file, "udp") || begins(file, "raw") || strcmp(file, "packet") == 0; }

void visit_net(Digest& digest, const char* folder, uint64_t space, unsigned generation) {
    for (const char* file : NET_FILES) {
        char path[96], name[64];
        snprintf(path, sizeof path, "%s/%s", folder, file);
        snprintf(name, sizeof name, "net/%" PRIu64 "/%s", space, file);
        const ssize_t len = slurp(path, g_file, sizeof g_file);
        if (len < 0) continue;
        if (is_table(file))
            digest_sockets(digest, g_file);
        else if (!counts(file))
            digest.add(g_file, static_cast<size_t>(len));
        if (generation) send_file(generation, name, g_file, static_cast<size_t>(len));
    }
}

// A namespace without a process can only be looked at from within. A child goes there, so that we stay where we are.
void visit_net_by(const char* path, unsigned generation) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (fd < 0 || fstat(fd, &about)) {
        send_line("E cannot open the namespace %s\n", path);
        return;
    }
    const pid_t child = fork();
    if (child == 0) {
        Digest unused;
        if (setns(fd, CLONE_NEWNET))
            send_line("E cannot enter the namespace %s\n", path);
        else
            visit_net(unused, "/proc/self/net", about.st_ino, generation);
        _exit(0);
    }
    close(fd);
    waitpid(child, nullptr, 0);
}

void visit_nets(Digest& digest, const int* pids, size_t count, unsigned generation) {
    static uint64_t seen[MAX_NAMESPACES];
    size_t spaces = 0;
    for (size_t i = 0; i < count; i++) {
        char path[64];
        struct stat about;
        snprintf(path, sizeof path, "/proc/%d/ns/net", pids[i]);
        if (is_hidden(pids[i]) || stat(path, &about)) continue;
        bool is_new = spaces < MAX_NAMESPACES;
        for (size_t one = 0; one < spaces; one++) is_new &= seen[one] != about.st_ino;
        if (!is_new) continue;
        seen[spaces++] = about.st_ino;
        snprintf(path, sizeof path, "/proc/%d/net", pids[i]);
        visit_net(digest, path, about.st_ino, generation);
    }
    if (!generation) return;
    for (const char* line = g_facts; line; line = next_line(line)) {
        char held[16], text[64], pid[16], fd[16];
        if (!begins(line, "netns ")) continue;
        field(line, "held", held, sizeof held);
        if (strcmp(held, "mount") == 0) {
            visit_net_by(field(line, "path", text, sizeof text), generation);
        } else if (strcmp(held, "fd") == 0) {
            snprintf(text, sizeof text, "/proc/%s/fd/%s", field(line, "pid", pid, sizeof pid), field(line, "fd", fd, sizeof fd));
            visit_net_by(text, generation);
        }
    }
}

int bpf(int command, bpf_attr& attributes) { return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof attributes)); }

// One kind of bpf(2)'s objects, by the commands that go through them.
struct Kind {
    const char* name;
    int next, open;
};

constexpr Kind KINDS[] = {
    {"programs", BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID},
    {"maps", BPF_MAP_GET_NEXT_ID, BPF_MAP_GET_FD_BY_ID},
    {"links", BPF_LINK_GET_NEXT_ID, BPF_LINK_GET_FD_BY_ID},
};

template <typename T> bool about(int fd, T& info) {
    bpf_attr attributes{};
    memset(&info, 0, sizeof info);
    attributes.info.bpf_fd = static_cast<uint32_t>(fd);
    attributes.info.info_len = sizeof info;
    attributes.info.info = reinterpret_cast<uintptr_t>(&info);
    return bpf(BPF_OBJ_GET_INFO_BY_FD, attributes) == 0;
}

size_t describe(const Kind& kind, int fd, char* into, size_t room) {
    int len = 0;
    if (kind.next == BPF_PROG_GET_NEXT_ID) {
        bpf_prog_info info;
        static uint32_t maps[64];
        if (!about(fd, info)) return 0;
        len = snprintf(into, room, "id=%u type=%u name=%s tag=", info.id, info.type, info.name);
        for (const unsigned char byte : info.tag) len += snprintf(into + len, room - static_cast<size_t>(len), "%02x", byte);
        len += snprintf(into + len, room - static_cast<size_t>(len), " uid=%u loaded=%" PRIu64 " translated=%u jited=%u maps=", info.created_by_uid,
                        static_cast<uint64_t>(info.load_time), info.xlated_prog_len, info.jited_prog_len);
        const uint32_t count = info.nr_map_ids < 64 ? info.nr_map_ids : 64;
        bpf_attr attributes{};
        bpf_prog_info again{};
        again.nr_map_ids = count;
        again.map_ids = reinterpret_cast<uintptr_t>(maps);
        attributes.info.bpf_fd = static_cast<uint32_t>(fd);
        attributes.info.info_len = sizeof again;
        attributes.info.info = reinterpret_cast<uintptr_t>(&again);
        const bool has_maps = count && bpf(BPF_OBJ_GET_INFO_BY_FD, attributes) == 0;
        for (uint32_t i = 0; has_maps && i < count; i++)
            len += snprintf(into + len, room - static_cast<size_t>(len), "%s%u", i ? "," : "", maps[i]);
    } else if (kind.next == BPF_MAP_GET_NEXT_ID) {
        bpf_map_info info;
        if (!about(fd, info)) return 0;
        len = snprintf(into, room, "id=%u type=%u name=%s key=%u value=%u entries=%u flags=%#x", info.id, info.type, info.name, info.key_size,
                       info.value_size, info.max_entries, info.map_flags);
    } else {
        bpf_link_info info;
        if (!about(fd, info)) return 0;
        len = snprintf(into, room, "id=%u type=%u program=%u", info.id, info.type, info.prog_id);
    }
    into[len++] = '\n';
    return static_cast<size_t>(len);
}

void visit_bpf(Digest& digest, unsigned generation) {
    for (const Kind& kind : KINDS) {
        size_t len = 0;
        bpf_attr attributes{};
        while (bpf(kind.next, attributes) == 0) {
            const uint32_t id = attributes.next_id;
            digest.add(&id, sizeof id);
            if (generation && len + 1024 < sizeof g_file) {
                bpf_attr which{};
                which.prog_id = id;
                const int fd = bpf(kind.open, which);
                if (fd >= 0) {
                    len += describe(kind, fd, g_file + len, 1024);
                    close(fd);
                }
            }
            attributes = {};
            attributes.start_id = id;
        }
        char name[32];
        snprintf(name, sizeof name, "bpf/%s", kind.name);
        if (generation) send_file(generation, name, g_file, len);
    }
}

// Descriptors have more to say than where they lead. What of that is a clock is left out of the digest.
void visit_descriptors(Digest& digest, int pid, unsigned generation) {
    static int fds[MAX_PROCESSES];
    char path[96];
    snprintf(path, sizeof path, "/proc/%d/fdinfo", pid);
    const size_t count = list_numbers(path, fds, MAX_PROCESSES);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fds[i]);
        const ssize_t len = slurp(path, g_file, sizeof g_file);
        if (len < 0) continue;
        for (const char* line = g_file; pid != 1 && line && *line; line = next_line(line))
            if (!begins(line, "it_value")) digest.add(line, line_len(line));
        if (generation) send_file(generation, path + 1, g_file, static_cast<size_t>(len));
    }
}

constexpr const char* SPACES[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"};

void visit_spaces(Digest& digest, int pid, unsigned generation) {
    size_t len = 0;
    for (const char* space : SPACES) {
        char path[64], to[64];
        snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, space);
        const ssize_t got = readlink(path, to, sizeof to - 1);
        if (got < 0) continue;
        to[got] = 0;
        len += static_cast<size_t>(snprintf(g_file + len, 160, "%s %s\n", space, to));
    }
    digest.add(g_file, len);
    char name[64];
    snprintf(name, sizeof name, "proc/%d/ns", pid);
    if (generation) send_file(generation, name, g_file, len);
}

// `cwd` and `root`, escaped.
void visit_folder(Digest& digest, int pid, const char* link, unsigned generation) {
    char name[64], path[64];
    snprintf(name, sizeof name, "proc/%d/%s", pid, link);
    snprintf(path, sizeof path, "/proc/%d/%s", pid, link);
    const ssize_t got = readlink(path, g_file, 4096);
    if (got < 0) return;
    const size_t len = escape(g_file, static_cast<size_t>(got), sizeof g_file);
    digest.add(g_file, len);
    if (generation) send_file(generation, name, g_file, len);
}

}  // namespace

size_t escape(char* text, size_t len, size_t room) {
    for (size_t at = 0; at < len && len + 3 < room; at++) {
        if (text[at] != '\n' && text[at] != '\\') continue;
        const char* instead = text[at] == '\n' ? "\\012" : "\\134";
        memmove(text + at + 4, text + at + 1, len - at - 1);
        memcpy(text + at, instead, 4);
        at += 3;
        len += 3;
    }
    return len;
}

// Without the module these are signals to ourselves that would end us.
static void order(int what) {
    const ssize_t len = slurp("/proc/modules", g_file, sizeof g_file);
    static bool is_there = false;
    for (const char* line = len > 0 ? g_file : nullptr; line && !is_there; line = next_line(line)) is_there = begins(line, "shade ");
    if (is_there) kill(getpid(), what);
}

void show() { order(ORDER_SHOW); }

void hide() { order(ORDER_HIDE); }

void begin() {
    memset(g_facts, 1, sizeof g_facts);
    collect_facts();
    g_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (g_log < 0) send_line("E cannot open /dev/kmsg\n");
    // The first hiding removes the module's folder for good, which the kernel tells whoever listens: not between two rounds.
    hide();
}

bool is_hidden(int pid) {
    for (int i = 0; i < g_hidden_count; i++)
        if (g_hidden[i] == pid) return true;
    return false;
}

void digest_modules(Digest& digest, const char* text) {
    for (const char* line = text; line && *line; line = next_line(line))
        if (!begins(line, "shade ") && !begins(line, "veil ")) digest.add(line, line_len(line));
}

void digest_sockets(Digest& digest, const char* text) {
    char secret[16];
    snprintf(secret, sizeof secret, ":%04X ", HIDDEN_PORT);
    // The heading has fewer words than there are columns, so columns are counted from the left in each table's own lines.
    const bool is_packet = strstr(text, "Iface") != nullptr, is_unix = begins(text, "Num ");
    for (const char* line = next_line(text); line && *line; line = next_line(line)) {
        const char* words[16];
        size_t lens[16];
        const size_t count = words_of(line, words, lens, 16);
        const char* hit = strstr(line, secret);
        if (hit && hit < line + line_len(line)) continue;
        if (is_unix) {
            digest.add(line, line_len(line));
            continue;
        }
        // Neither counters nor clocks: `sl local remote state queues timer retransmits uid timeout inode`, and
        // `sk references type protocol interface running memory user inode`.
        for (size_t at : {1, 2, 3, is_packet ? 4 : 7, is_packet ? 8 : 9})
            if (at < count) digest.add(words[at], lens[at]);
    }
}

void visit_process(Digest& digest, int pid, unsigned generation) {
    struct {
        const char *file, *as;
        bool is_stable;
    } const FILES[] = {{"mountinfo", "mountinfo", true},       {"cgroup", "cgroup", true},       {"limits", "limits", true},
                       {"loginuid", "loginuid", true},         {"attr/current", "attr", true},   {"uid_map", "uid_map", true},
                       {"gid_map", "gid_map", true},           {"syscall", "syscall", false},    {"wchan", "wchan", false},
                       {"stack", "stack", false},              {"personality", "personality", true}};
    for (const auto& file : FILES) {
        // What is not compared need not be read for nothing.
        if (!file.is_stable && !generation) continue;
        char path[64], name[64];
        snprintf(path, sizeof path, "/proc/%d/%s", pid, file.file);
        snprintf(name, sizeof name, "proc/%d/%s", pid, file.as);
        visit_file(digest, path, name, generation, file.is_stable);
    }
    visit_spaces(digest, pid, generation);
    visit_folder(digest, pid, "cwd", generation);
    visit_folder(digest, pid, "root", generation);
    visit_descriptors(digest, pid, generation);
}

void visit_thread(int pid, int tid, unsigned generation) {
    if (!generation) return;
    Digest unused;
    for (const char* file : {"status", "syscall", "wchan", "stack"}) {
        char path[96];
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, tid, file);
        visit_file(unused, path, path + 1, generation, false);
    }
}

void visit_guest(Digest& digest, const int* pids, size_t count, unsigned generation) {
    // New records are read by every round, all of them when everything is sent.
    if (generation) send_facts(generation);
    for (ssize_t got; (got = read(g_log, g_out, sizeof g_out)) > 0 || (got < 0 && errno == EPIPE);) g_records += got > 0;
    digest.add(&g_records, sizeof g_records);
    visit_nets(digest, pids, count, generation);
    // Callbacks of a hidden module have no names there, so what lines say of them differs.
    ssize_t len = slurp("/sys/kernel/tracing/enabled_functions", g_file, sizeof g_file);
    if (len >= 0) {
        digest_words(digest, g_file);
        if (generation) send_file(generation, "enabled_functions", g_file, static_cast<size_t>(len));
    }
    visit_file(digest, "/sys/kernel/debug/kprobes/list", "kprobes/list", generation, true);
    visit_bpf(digest, generation);
}

}  // namespace witness::scene
