// The guest's own witness. /init ends by turning into this program, so it is process 1.
//
// It copies what the guest knows about itself out of /proc to the host, and then watches: again and
// again it compares all of it with what it sent and reports a digest. The host takes its snapshot
// between two equal digests, which proves that the truth was true at the moment of the snapshot,
// although processes run and kernel workers come and go.
//
// Transport: QEMU's debug console, a byte-wide I/O port (0xe9). It needs no driver, no buffer in the
// guest's memory and no line discipline, so it works the same in every kernel. Frames:
//
//   F GENERATION NAME LENGTH\n BYTES    one file; a later generation replaces all files under proc/
//   R ROUND DIGEST GENERATION\n         end of a round; DIGEST covers everything that is stable
//   E TEXT\n                            something went wrong
//
// Not compared: frames of pages between RESTLESS and RESTLESS_END, where a program moves its pages all the time.
//
// All buffers are static and touched beforehand: this process is in the picture too, and must not
// change while it takes it.
#include <cctype>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include <fcntl.h>
#include <sys/io.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "witness.h"

namespace witness {

char g_file[MAX_FILE];
char g_out[MAX_FILE];

}  // namespace witness

using namespace witness;

namespace {

#ifdef SCENE
constexpr bool IS_SCENE = true;
#else
constexpr bool IS_SCENE = false;
#endif

constexpr unsigned short PORT = 0xe9;
constexpr uint64_t RESTLESS = 0x200000000000;
constexpr uint64_t RESTLESS_END = 0x300000000000;

char g_areas[1 << 20];
uint64_t g_entries[64 << 10];

void send(const void* at, size_t len) {
    asm volatile("rep outsb" : "+S"(at), "+c"(len) : "d"(PORT) : "memory");
}

}  // namespace

namespace witness {

void send_line(const char* format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    const int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    send(text, static_cast<size_t>(len) < sizeof text ? static_cast<size_t>(len) : sizeof text - 1);
}

void send_file(unsigned generation, const char* name, const void* at, size_t len) {
    send_line("F %u %s %zu\n", generation, name, len);
    send(at, len);
}

ssize_t slurp(const char* path, char* into, size_t room) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t len = 0;
    for (;;) {
        const ssize_t got = read(fd, into + len, room - 1 - len);
        if (got <= 0) break;
        len += static_cast<size_t>(got);
        if (len == room - 1) {
            send_line("E %s is longer than %zu bytes\n", path, room);
            break;
        }
    }
    close(fd);
    into[len] = 0;
    return static_cast<ssize_t>(len);
}

size_t list_numbers(const char* path, int* into, size_t room) {
    alignas(8) static char block[64 << 10];
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return 0;
    size_t count = 0;
    for (;;) {
        const long got = syscall(SYS_getdents64, fd, block, sizeof block);
        if (got <= 0) break;
        for (long at = 0; at < got;) {
            // struct linux_dirent64: u64 ino, i64 off, u16 reclen, u8 type, name
            unsigned short len;
            memcpy(&len, block + at + 16, sizeof len);
            const char* name = block + at + 19;
            if (isdigit(static_cast<unsigned char>(name[0])) && count < room) into[count++] = atoi(name);
            at += len;
        }
    }
    close(fd);
    return count;
}

}  // namespace witness

namespace {

// Large files go through in pieces: their length is found by reading them once before.
void send_large(unsigned generation, const char* name, const char* path) {
    size_t total = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        send_line("E cannot open %s\n", path);
        return;
    }
    for (ssize_t got; (got = read(fd, g_file, sizeof g_file)) > 0;) total += static_cast<size_t>(got);
    lseek(fd, 0, SEEK_SET);
    send_line("F %u %s %zu\n", generation, name, total);
    size_t sent = 0;
    for (ssize_t got; sent < total && (got = read(fd, g_file, sizeof g_file)) > 0;) {
        size_t len = static_cast<size_t>(got);
        if (len > total - sent) len = total - sent;
        send(g_file, len);
        sent += len;
    }
    for (; sent < total; sent++) send("\n", 1);
    close(fd);
}

// What of /proc/N/status stays the same while the process merely runs.
bool is_stable(const char* line) {
    static const char* const PREFIXES[] = {"Tgid:", "Pid:",     "PPid:",  "TracerPid:", "Uid:",
                                           "Gid:",  "Threads:", "NSpid:", "Kthread:",   "Groups:"};
    for (const char* prefix : PREFIXES)
        if (strncmp(line, prefix, strlen(prefix)) == 0) return true;
    return false;
}

// The kernel shows a worker as "kworker/0:1-events": behind the dash is what it did last, which is
// not part of its name.
void digest_name(Digest& digest, const char* comm) {
    size_t len = strcspn(comm, "\n");
    if (strncmp(comm, "kworker/", 8) == 0) len = strcspn(comm, "-+\n");
    digest.add(comm, len);
}

void digest_status(Digest& digest, const char* text) {
    for (const char* line = text; line && *line;) {
        const char* end = strchr(line, '\n');
        if (is_stable(line)) digest.add(line, end ? static_cast<size_t>(end - line) : strlen(line));
        line = end ? end + 1 : nullptr;
    }
}

// Present and swapped pages as runs of consecutive frames, one a line:
//   VA PAGES P FRAME [f]      present; f: file page or shared memory
//   VA PAGES S TYPE OFFSET    in swap
// VA, PAGES, FRAME and OFFSET are hexadecimal. Large areas without anything resident are skipped by
// what smaps says: reading the pagemap of an untouched 64 GiB area would take longer than the boot.
// Small ones are always read, because smaps does not count the kernel's own pages in [vvar].
size_t list_pages(int pid, Digest& digest) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/smaps", pid);
    if (slurp(path, g_areas, sizeof g_areas) < 0) return 0;
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    size_t len = 0;
    uint64_t start = 0, end = 0;
    bool resident = false;

    uint64_t run_va = 0, run_pages = 0, run_entry = 0;
    auto flush = [&] {
        if (run_pages == 0 || len + 128 > sizeof g_out) return;
        const size_t before = len;
        if (run_entry >> 63)
            len += static_cast<size_t>(snprintf(g_out + len, 128, "%" PRIx64 " %" PRIx64 " P %" PRIx64 "%s\n",
                                                run_va, run_pages, run_entry & ((uint64_t{1} << 55) - 1),
                                                (run_entry >> 61) & 1 ? " f" : ""));
        else
            len += static_cast<size_t>(snprintf(g_out + len, 128, "%" PRIx64 " %" PRIx64 " S %x %" PRIx64 "\n",
                                                run_va, run_pages, static_cast<unsigned>(run_entry & 31),
                                                (run_entry >> 5) & ((uint64_t{1} << 50) - 1)));
        if (run_va < RESTLESS || run_va >= RESTLESS_END) digest.add(g_out + before, len - before);
        run_pages = 0;
    };
    auto area_done = [&] {
        if (!resident) return;
        for (uint64_t va = start; va < end;) {
            uint64_t pages = (end - va) / 4096;
            if (pages > sizeof g_entries / 8) pages = sizeof g_entries / 8;
            const ssize_t got = pread(fd, g_entries, pages * 8, static_cast<off_t>(va / 4096 * 8));
            if (got <= 0) break;  // [vsyscall] is not in the page map
            for (uint64_t i = 0; i < static_cast<uint64_t>(got) / 8; i++) {
                // Keep present, swapped, file and the frame; leave soft-dirty and exclusive out.
                const uint64_t entry = g_entries[i] & 0xe07fffffffffffff;
                if (!(entry >> 62)) {
                    flush();
                    continue;
                }
                const uint64_t step = entry >> 63 ? run_pages : run_pages << 5;
                if (run_pages && va + i * 4096 == run_va + run_pages * 4096 && entry == run_entry + step) {
                    run_pages++;
                } else {
                    flush();
                    run_va = va + i * 4096;
                    run_pages = 1;
                    run_entry = entry;
                }
            }
            va += static_cast<uint64_t>(got) / 8 * 4096;
        }
        flush();
    };
    for (const char* line = g_areas; line && *line;) {
        // No sscanf: it measures all of the text behind a line, again and again.
        char* behind;
        const unsigned long from = strtoul(line, &behind, 16);
        if (behind > line && *behind == '-') {
            area_done();
            start = from;
            end = strtoul(behind + 1, nullptr, 16);
            resident = end - start <= uint64_t{64} << 20;
        } else {
            for (const char* size : {"Rss:", "Swap:", "Private_Hugetlb:"})
                if (strncmp(line, size, strlen(size)) == 0) resident |= strtol(line + strlen(size), nullptr, 10) != 0;
        }
        line = strchr(line, '\n');
        if (line) line++;
    }
    area_done();
    close(fd);
    if (len + 128 > sizeof g_out) send_line("E the page list of process %d was cut\n", pid);
    return len;
}

// What a process was given and holds open: its environment, and its descriptors as lines of `NUMBER PATH`.
void visit_open(Digest& digest, int pid, unsigned generation) {
    static int fds[MAX_PROCESSES];
    char path[96];
    char name[96];
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    ssize_t len = slurp(path, g_file, sizeof g_file);
    // In newer kernels threads of the kernel do not even let it be opened.
    if (len < 0) len = 0;
    digest.add(g_file, static_cast<size_t>(len));
    if (generation) send_file(generation, path + 1, g_file, static_cast<size_t>(len));

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    const size_t count = list_numbers(path, fds, MAX_PROCESSES);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fds[i]);
        if (used + 4096 + 16 > sizeof g_file) break;
        // The one that the listing itself had open has gone.
        const int head = snprintf(g_file + used, 16, "%d ", fds[i]);
        len = readlink(path, g_file + used + head, 4096);
        if (len < 0) continue;
        if constexpr (IS_SCENE)
            len = static_cast<ssize_t>(scene::escape(g_file + used + head, static_cast<size_t>(len), sizeof g_file - used - 32));
        used += static_cast<size_t>(head + len);
        g_file[used++] = '\n';
    }
    digest.add(g_file, used);
    snprintf(name, sizeof name, "proc/%d/fds", pid);
    if (generation) send_file(generation, name, g_file, used);
}

// The sockets of the first network namespace.
void visit_sockets(Digest& digest, unsigned generation) {
    for (const char* file : {"tcp", "tcp6", "udp", "udp6", "unix"}) {
        char path[64];
        snprintf(path, sizeof path, "/proc/net/%s", file);
        const ssize_t len = slurp(path, g_file, sizeof g_file);
        if (len < 0) continue;
        if constexpr (IS_SCENE)
            scene::digest_sockets(digest, g_file);
        else
            digest.add(g_file, static_cast<size_t>(len));
        if (generation) send_file(generation, path + 1, g_file, static_cast<size_t>(len));
    }
}

// Visits everything that can change; sends it too when `generation` is not 0.
uint64_t visit(unsigned generation) {
    static int pids[MAX_PROCESSES];
    static int tids[MAX_PROCESSES];
    Digest of_all;
    // Of what is hidden from us now and then, which cannot be compared.
    Digest of_hidden;
    char path[96], name[96];
    const size_t count = list_numbers("/proc", pids, MAX_PROCESSES);
    if (count == MAX_PROCESSES) send_line("E more than %zu processes\n", MAX_PROCESSES);

    ssize_t len = slurp("/proc/modules", g_file, sizeof g_file);
    if (len >= 0) {
        if constexpr (IS_SCENE)
            scene::digest_modules(of_all, g_file);
        else
            of_all.add(g_file, static_cast<size_t>(len));
        if (generation) send_file(generation, "proc/modules", g_file, static_cast<size_t>(len));
    }
    visit_sockets(of_all, generation);
    if constexpr (IS_SCENE) scene::visit_guest(of_all, pids, count, generation);
    for (size_t i = 0; i < count; i++) {
        const int pid = pids[i];
        Digest& digest = IS_SCENE && scene::is_hidden(pid) ? of_hidden : of_all;
        if constexpr (IS_SCENE) scene::visit_process(digest, pid, generation);
        visit_open(digest, pid, generation);
        for (const char* file : {"maps", "cmdline", "comm", "status", "stat", "auxv", "exe"}) {
            snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
            snprintf(name, sizeof name, "proc/%d/%s", pid, file);
            if (strcmp(file, "exe") == 0) {
                len = readlink(path, g_file, 4096);
                if (len >= 0) g_file[len] = 0;
            } else {
                len = slurp(path, g_file, sizeof g_file);
            }
            if (len < 0) continue;
            if (strcmp(file, "status") == 0)
                digest_status(digest, g_file);
            else if (strcmp(file, "comm") == 0)
                digest_name(digest, g_file);
            else if (strcmp(file, "stat") != 0)
                digest.add(g_file, static_cast<size_t>(len));
            if (generation) send_file(generation, name, g_file, static_cast<size_t>(len));
        }
        const size_t pages = list_pages(pid, digest);
        snprintf(name, sizeof name, "proc/%d/pages", pid);
        if (generation) send_file(generation, name, g_out, pages);
        if (generation && access("/sys/devices/system/node/node1", F_OK) == 0) {
            snprintf(path, sizeof path, "/proc/%d/numa_maps", pid);
            snprintf(name, sizeof name, "proc/%d/numa_maps", pid);
            len = slurp(path, g_file, sizeof g_file);
            if (len >= 0) send_file(generation, name, g_file, static_cast<size_t>(len));
        }

        snprintf(path, sizeof path, "/proc/%d/task", pid);
        const size_t threads = list_numbers(path, tids, MAX_PROCESSES);
        for (size_t t = 0; t < threads; t++) {
            snprintf(path, sizeof path, "/proc/%d/task/%d/comm", pid, tids[t]);
            snprintf(name, sizeof name, "proc/%d/task/%d/comm", pid, tids[t]);
            len = slurp(path, g_file, sizeof g_file);
            if (len < 0) continue;
            digest.add(&tids[t], sizeof tids[t]);
            digest_name(digest, g_file);
            if (generation) send_file(generation, name, g_file, static_cast<size_t>(len));
            snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tids[t]);
            snprintf(name, sizeof name, "proc/%d/task/%d/stat", pid, tids[t]);
            len = slurp(path, g_file, sizeof g_file);
            if (len >= 0 && generation) send_file(generation, name, g_file, static_cast<size_t>(len));
            if constexpr (IS_SCENE) scene::visit_thread(pid, tids[t], generation);
        }
    }
    return of_all.value;
}

// What the programs state about themselves, and what never changes.
void send_fixed() {
    for (const char* file : {"version", "cmdline", "iomem", "cpuinfo", "meminfo", "swaps", "zoneinfo"}) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%s", file);
        const ssize_t len = slurp(path, g_file, sizeof g_file);
        if (len >= 0) send_file(1, file, g_file, static_cast<size_t>(len));
    }
    ssize_t len = slurp("/proc/sys/kernel/osrelease", g_file, sizeof g_file);
    if (len >= 0) send_file(1, "osrelease", g_file, static_cast<size_t>(len));
    len = slurp("/sys/kernel/debug/zswap/stored_pages", g_file, sizeof g_file);
    if (len >= 0) send_file(1, "zswap_stored_pages", g_file, static_cast<size_t>(len));
    send_large(1, "kallsyms", "/proc/kallsyms");
    // Kernels need not have it.
    if (access("/sys/kernel/btf/vmlinux", R_OK) == 0) send_large(1, "btf", "/sys/kernel/btf/vmlinux");
}

void send_programs(int count, char** names) {
    for (int i = 0; i < count; i++) {
        char path[128], name[128];
        snprintf(path, sizeof path, "/lab/out/%s", names[i]);
        snprintf(name, sizeof name, "programs/%s", names[i]);
        const ssize_t len = slurp(path, g_file, sizeof g_file);
        if (len < 0)
            send_line("E program %s has not reported\n", names[i]);
        else
            send_file(1, name, g_file, static_cast<size_t>(len));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (ioperm(PORT, 1, 1)) {
        perror("witness: ioperm");
        return 1;
    }
    // Touch every page now.
    memset(g_file, 1, sizeof g_file);
    memset(g_out, 1, sizeof g_out);
    memset(g_areas, 1, sizeof g_areas);
    memset(g_entries, 1, sizeof g_entries);

    send_fixed();
    send_programs(argc - 1, argv + 1);
    if constexpr (IS_SCENE) scene::begin();
    uint64_t sent = 0;
    unsigned generation = 0;
    bool announced = false;
    for (unsigned round = 1;; round++) {
        uint64_t now = visit(0);
        if (now != sent) {
            if constexpr (IS_SCENE) scene::show();
            now = sent = visit(++generation);
            if constexpr (IS_SCENE) scene::hide();
        } else if (!announced) {
            // The console, for people; the host waits for this line too.
            announced = write(1, "vmie-lab: READY\n", 16) == 16;
            // Whoever waits for this may change from now on.
            close(creat("/lab/out/announced", 0600));
        }
        send_line("R %u %016" PRIx64 " %u\n", round, now, generation);
        timespec pause{0, 200 * 1000 * 1000};
        nanosleep(&pause, nullptr);
    }
}
