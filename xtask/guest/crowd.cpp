// The other inhabitants of a lab guest: one process for each odd thing that a Linux process can be
// or have. `crowd KIND` becomes one of them, states what it is (see lab.h) and stays.
#include "crowd.h"

#include <cerrno>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

namespace crowd {

[[noreturn]] void fail(const char* what) {
    perror(what);
    exit(1);
}

unsigned char* map(size_t len, int prot, int flags, int fd, off_t offset) {
    void* at = mmap(nullptr, len, prot, flags, fd, offset);
    if (at == MAP_FAILED) fail("mmap");
    return static_cast<unsigned char*>(at);
}

unsigned char* map_anonymous(size_t len, int prot) {
    return map(len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
}

unsigned char* map_huge(size_t len, bool& has_huge) {
    auto* raw = map_anonymous(len + HUGE_PAGE);
    auto* at = reinterpret_cast<unsigned char*>(
        (reinterpret_cast<uintptr_t>(raw) + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    has_huge = madvise(at, len, MADV_HUGEPAGE) == 0;
    if (!has_huge && errno != EINVAL) fail("madvise");
    return at;
}

void state_area(Truth& truth, const char* name, const void* at, size_t len) {
    truth.line("area %s %p %#zx", name, at, len);
}

// Where everybody ends: busy for a moment now and then, so that the CPU can be caught with this
// process's page tables, and otherwise asleep.
volatile uint64_t g_beat;

void beat() {
    g_beat = g_beat + 1;
    lab::spin(static_cast<uint64_t>(getpid()), 300'000);
}

[[noreturn]] void stay() {
    for (;;) {
        beat();
        lab::nap(40);
    }
}

void start_thread(void* (*run)(void*), const char* name) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, run, const_cast<char*>(name))) fail("pthread_create");
}

}  // namespace crowd

using namespace crowd;

namespace {

// Fills each page with its number and a pattern that neither compresses to nothing nor repeats.
void fill(unsigned char* at, size_t len, uint64_t seed) {
    auto* words = reinterpret_cast<uint64_t*>(at);
    for (size_t i = 0; i < len / 8; i++) {
        seed = seed * 6364136223846793005 + 1442695040888963407;
        words[i] = i % (PAGE / 8) == 0 ? i / (PAGE / 8) : seed;
    }
}

void* thread_main(void* name) {
    prctl(PR_SET_NAME, name);
    stay();
}

// Several threads, each with a name of its own.
void threads(Truth& truth) {
    for (const char* name : {"worker-a", "worker-b", "worker-c"}) start_thread(thread_main, name);
    truth.line("note threads 4");
}

// The first thread has ended, the process lives on: a zombie leader.
void leaderless(Truth& truth) {
    start_thread(thread_main, "survivor");
    lab::nap(50);
    truth.ready();
    pthread_exit(nullptr);
}

// Not root.
void user(Truth& truth) {
    if (setgid(1001) || setuid(1000)) fail("setuid");
    truth.line("note uid 1000 gid 1001");
}

// A name that tries to be something else: brackets, blanks, an escape sequence, a line end.
void odd_name(Truth& truth) {
    prctl(PR_SET_NAME, "x) R \x1b[31m\n(");
    truth.line("note odd name");
}

// Files: mapped private and shared, in part touched, written to (copied), and one that is deleted.
void files(Truth& truth) {
    const char* path = "/lab/out/mapped file.bin";
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) fail(path);
    static unsigned char block[16 * PAGE];
    fill(block, sizeof block, 7);
    if (write(fd, block, sizeof block) != sizeof block) fail("write");
    auto* shared = map(16 * PAGE, PROT_READ, MAP_SHARED, fd);
    auto* partial = map(8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 4 * PAGE);
    volatile unsigned char sum = 0;
    for (size_t page = 0; page < 16; page++) sum = sum + shared[page * PAGE];
    partial[2 * PAGE + 5] = 0xaa;
    state_area(truth, "shared-file", shared, 16 * PAGE);
    state_area(truth, "private-file", partial, 8 * PAGE);
    close(fd);

    const char* doomed = "/lab/out/doomed";
    fd = open(doomed, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, block, 4 * PAGE) != static_cast<ssize_t>(4 * PAGE)) fail(doomed);
    auto* deleted = map(4 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd);
    sum = sum + deleted[PAGE];
    close(fd);
    unlink(doomed);
    state_area(truth, "deleted-file", deleted, 4 * PAGE);
}

// Reserved but never touched, and pages that nobody may use although they hold data.
void sparse(Truth& truth) {
    const size_t huge = size_t{64} << 30;
    state_area(truth, "untouched", map_anonymous(huge), huge);
    // Also keeps the kernel from joining the untouched area with the touched one below.
    state_area(truth, "reserved", map_anonymous(huge, PROT_NONE), huge);
    auto* guarded = map_anonymous(16 * PAGE);
    fill(guarded, 16 * PAGE, 3);
    if (mprotect(guarded + 4 * PAGE, 4 * PAGE, PROT_NONE)) fail("mprotect");
    if (mprotect(guarded + 8 * PAGE, 4 * PAGE, PROT_READ)) fail("mprotect");
    if (madvise(guarded + 12 * PAGE, 2 * PAGE, MADV_DONTNEED)) fail("madvise");
    state_area(truth, "guarded", guarded, 16 * PAGE);
    // One page here and there: a fragmented address space.
    auto* scattered = map_anonymous(256 * PAGE);
    for (size_t page = 0; page < 256; page += 3) scattered[page * PAGE] = 1;
    state_area(truth, "scattered", scattered, 256 * PAGE);
    // Same frame content, alternating protection: many small regions.
    auto* striped = map_anonymous(64 * PAGE);
    fill(striped, 64 * PAGE, 5);
    for (size_t page = 0; page < 64; page += 2)
        if (mprotect(striped + page * PAGE, PAGE, PROT_READ)) fail("mprotect");
    state_area(truth, "striped", striped, 64 * PAGE);
    auto* code = map_anonymous(4 * PAGE);
    memset(code, 0xc3, 4 * PAGE);
    if (mprotect(code, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC)) fail("mprotect");
    state_area(truth, "rwx", code, 4 * PAGE);
}

// Transparent huge pages (2 MiB), one of them split by a change of protection in its middle. Real-time
// kernels have none.
void huge_pages(Truth& truth) {
    const size_t len = 4 * HUGE_PAGE;
    bool has_huge;
    auto* at = map_huge(len, has_huge);
    fill(at, len, 11);
    if (mprotect(at + 2 * HUGE_PAGE + 8 * PAGE, 2 * PAGE, PROT_READ)) fail("mprotect");
    state_area(truth, has_huge ? "huge" : "not-huge", at, len);
}

// Memory that has been swapped out (the guest swaps to zram, or to a disk behind zswap): what does not
// compress, and what does.
void swapped(Truth& truth) {
    const size_t len = 512 * PAGE;
    auto* at = map_anonymous(len);
    fill(at, len, 13);
    if (madvise(at, len / 2, MADV_PAGEOUT)) fail("madvise");
    state_area(truth, "paged-out", at, len / 2);
    state_area(truth, "kept", at + len / 2, len / 2);
    auto* marked = map_anonymous(64 * PAGE, PROT_READ | PROT_WRITE);
    mark(truth, "COMPRESSED", marked, 64 * PAGE);
    if (madvise(marked, 64 * PAGE, MADV_PAGEOUT)) fail("madvise");
}

// Two processes that share memory three ways: inherited, System V, and a memfd; and share the rest
// copy-on-write.
void shared(Truth& truth) {
    auto* inherited = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    fill(inherited, 4 * PAGE, 17);
    // The first segment of a guest has inode number 0, over which Volatility 2.28 stumbles when somebody maps it.
    if (shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600) < 0) fail("shmget");
    const int id = shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600);
    void* sysv = shmat(id, nullptr, 0);
    if (sysv == reinterpret_cast<void*>(-1)) fail("shmat");
    fill(static_cast<unsigned char*>(sysv), 4 * PAGE, 19);
    const int fd = static_cast<int>(syscall(SYS_memfd_create, "lab memfd", 0));
    if (fd < 0 || ftruncate(fd, 4 * PAGE)) fail("memfd");
    auto* memfd = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    fill(memfd, 4 * PAGE, 23);
    state_area(truth, "inherited", inherited, 4 * PAGE);
    state_area(truth, "sysv", sysv, 4 * PAGE);
    state_area(truth, "memfd", memfd, 4 * PAGE);
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        prctl(PR_SET_NAME, "shared-child");
        stay();
    }
    truth.line("note child %d", static_cast<int>(child));
    truth.line("busy %d", static_cast<int>(child));
}

// A child that has ended and is never waited for.
void zombie(Truth& truth) {
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) _exit(3);
    truth.line("note zombie %d", static_cast<int>(child));
    lab::nap(50);
}

// A process in a pid namespace of its own, where it is number 1.
void namespaced(Truth& truth) {
    if (unshare(CLONE_NEWPID)) fail("unshare");
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        prctl(PR_SET_NAME, "pid-one");
        for (;;) lab::nap(1000);
    }
    truth.line("note namespaced %d", static_cast<int>(child));
}

// Sockets that others could connect to, one of each family, and an open file.
int listen_at(int family, int type, const void* address, socklen_t len) {
    const int fd = socket(family, type, 0);
    const int on = 1;
    if (fd < 0 && errno == EAFNOSUPPORT) return -1;
    if (fd < 0) fail("socket");
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, static_cast<const sockaddr*>(address), len)) fail("bind");
    if (type == SOCK_STREAM && listen(fd, 5)) fail("listen");
    return fd;
}

void listening(Truth& truth) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(4711);
    listen_at(AF_INET, SOCK_STREAM, &four, sizeof four);
    four.sin_port = htons(4712);
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_at(AF_INET, SOCK_DGRAM, &four, sizeof four);
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(4713);
    listen_at(AF_INET6, SOCK_STREAM, &six, sizeof six);
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    strcpy(local.sun_path, "/lab/out/listening.socket");
    listen_at(AF_UNIX, SOCK_STREAM, &local, sizeof local);
    if (open("/lab/out/held open", O_RDWR | O_CREAT, 0600) < 0) fail("open");
    truth.line("note listening");
}

// Maps, protects and unmaps the same pages for ever, each state long enough to be seen. Not in the list of
// kinds: a guest whose picture is taken stands still.
[[noreturn]] void breathing() {
    Truth truth("breathing");
    void* const wanted = reinterpret_cast<void*>(0x100000000000);
    truth.symbol("breathing", static_cast<const unsigned char*>(wanted));
    truth.ready();
    wait_until_announced();
    for (;;) {
        void* at = mmap(wanted, 16 * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (at != wanted) fail("mmap");
        fill(static_cast<unsigned char*>(at), 16 * PAGE, 9);
        lab::nap(1200);
        if (mprotect(static_cast<unsigned char*>(at) + 4 * PAGE, 4 * PAGE, PROT_READ)) fail("mprotect");
        lab::nap(1200);
        if (munmap(at, 16 * PAGE)) fail("munmap");
        lab::nap(1200);
    }
}

struct Kind {
    const char* name;
    void (*become)(Truth&);
};

constexpr Kind KINDS[] = {
    {"threads", threads},     {"leaderless", leaderless}, {"user", user},
    {"odd-name", odd_name},   {"files", files},           {"sparse", sparse},
    {"huge-pages", huge_pages}, {"swapped", swapped},     {"shared", shared},
    {"zombie", zombie},       {"namespaced", namespaced}, {"prot-none", prot_none},
    {"listening", listening},
};

// Only where there are two NUMA nodes.
constexpr Kind NUMA_KINDS[] = {{"numabal", numabal}, {"mover", mover}};

void list(const Kind& kind) { puts(kind.name); }

void become(const Kind& kind, const std::string& wanted) {
    if (wanted != kind.name) return;
    Truth truth(kind.name);
    truth.symbol("g_beat", const_cast<const uint64_t*>(&g_beat));
    truth.tick("beat", const_cast<const uint64_t*>(&g_beat));
    kind.become(truth);
    truth.ready();
    stay();
}

}  // namespace

int main(int argc, char** argv) {
    const std::string wanted = argc > 1 ? argv[1] : "";
    // The kinds, for /init to start one of each.
    if (wanted == "--list") {
        for (const Kind& kind : KINDS) list(kind);
        if (has_two_nodes())
            for (const Kind& kind : NUMA_KINDS) list(kind);
        return 0;
    }
    if (wanted == "breathing") breathing();
    for (const Kind& kind : KINDS) become(kind, wanted);
    for (const Kind& kind : NUMA_KINDS) become(kind, wanted);
    fprintf(stderr, "crowd: no kind \"%s\"; try --list\n", wanted.c_str());
    return 1;
}
