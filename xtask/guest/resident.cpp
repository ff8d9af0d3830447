// Inhabitants with pages that are in memory although their entries in the page tables are not present: made
// PROT_NONE by the program, or by the kernel to sample accesses; and those that are just being moved.
#include "crowd.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/prctl.h>

namespace crowd {

namespace {

constexpr size_t GIANT_PAGE = size_t{1} << 30;

// Reached from a static pointer, through pages that nobody may use.
struct Link {
    Link* next;
    uint64_t number;
    char text[48];
};

Link* g_chain;

// A link in the middle of a page, put before the others.
void chain(unsigned char* page, uint64_t number) {
    auto* link = reinterpret_cast<Link*>(page + 0x100);
    link->next = g_chain;
    link->number = number;
    snprintf(link->text, sizeof link->text, "link %" PRIu64 " of the chain", number);
    g_chain = link;
}

void write_marks(const char* name, unsigned char* at, size_t len) {
    const size_t step = len < GIANT_PAGE ? 1 : 64;
    for (size_t page = 0; page < len / PAGE; page += step)
        sprintf(reinterpret_cast<char*>(at) + page * PAGE, "%s-%05zu-marker", name, page);
}

void forbid(unsigned char* at, size_t len) {
    if (mprotect(at, len, PROT_NONE)) fail("mprotect");
}

// Huge pages of a size; null where the guest has none of them.
unsigned char* map_hugetlb(size_t size) {
    // mmap(2): the size is given by its base-2 logarithm.
    const int log = __builtin_ctzll(size);
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (log << MAP_HUGE_SHIFT), -1, 0);
    return at == MAP_FAILED ? nullptr : static_cast<unsigned char*>(at);
}

// Moves pages to a node; what came of each does not matter.
void move_to(void** pages, size_t count, int node) {
    static int nodes[4096];
    static int status[4096];
    for (size_t i = 0; i < count; i++) nodes[i] = node;
    // linux/mempolicy.h: MPOL_MF_MOVE
    syscall(SYS_move_pages, 0, count, pages, nodes, status, 2);
}

// Uses some of its pages all the time and others never.
unsigned char* g_sampled;
constexpr size_t SAMPLED = 4096 * PAGE;

void* use_pages(void* name) {
    prctl(PR_SET_NAME, name);
    volatile unsigned char sum = 0;
    for (;;) {
        for (size_t at = 0; at < SAMPLED; at += 7 * PAGE) sum = sum + g_sampled[at];
        beat();
        lab::nap(20);
    }
}

}  // namespace

void mark(Truth& truth, const char* name, unsigned char* at, size_t len) {
    write_marks(name, at, len);
    state_area(truth, name, at, len);
}

bool has_two_nodes() { return access("/sys/devices/system/node/node1", F_OK) == 0; }

void wait_until_announced() {
    while (access("/lab/out/announced", F_OK)) lab::nap(100);
}

// Made PROT_NONE by the program: pages of each size, a part of a huge one, of a file, shared ones, and some
// that are swapped out.
void prot_none(Truth& truth) {
    auto* small = map_anonymous(16 * PAGE);
    mark(truth, "NONE4K", small, 16 * PAGE);

    bool has_huge;
    auto* huge = map_huge(HUGE_PAGE, has_huge);
    mark(truth, has_huge ? "NONETHP" : "NOTHP", huge, HUGE_PAGE);
    auto* split = map_huge(HUGE_PAGE, has_huge);
    mark(truth, "PARTLY", split, HUGE_PAGE);

    auto* hugetlb = map_hugetlb(HUGE_PAGE);
    if (hugetlb) mark(truth, "NONEHUGE", hugetlb, HUGE_PAGE);
    auto* giant = map_hugetlb(GIANT_PAGE);
    if (giant) mark(truth, "NONEGIANT", giant, GIANT_PAGE);

    const char* path = "/lab/out/none code.bin";
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0755);
    if (fd < 0 || ftruncate(fd, 8 * PAGE)) fail(path);
    auto* file = map(8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    write_marks("NONECODE", file, 8 * PAGE);
    if (munmap(file, 8 * PAGE)) fail("munmap");
    auto* code = map(8 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd);
    volatile unsigned char sum = 0;
    for (size_t page = 0; page < 8; page++) sum = sum + code[page * PAGE];
    state_area(truth, "NONECODE", code, 8 * PAGE);
    close(fd);

    auto* shared = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    mark(truth, "NONESHARED", shared, 4 * PAGE);

    auto* swapped = map_anonymous(16 * PAGE);
    mark(truth, "NONESWAP", swapped, 16 * PAGE);
    if (madvise(swapped, 16 * PAGE, MADV_PAGEOUT)) fail("madvise");

    // From the static pointer through one page of each size to one that is as usual.
    auto* end = map_anonymous(PAGE);
    chain(end, 4);
    if (hugetlb) chain(hugetlb + 5 * PAGE, 3);
    chain(huge + 7 * PAGE, 2);
    chain(small + 3 * PAGE, 1);
    truth.symbol("g_chain", &g_chain);
    truth.line("area chain-end %p %#zx", static_cast<void*>(end), PAGE);
    truth.line("path chain %p %s %p", static_cast<void*>(&g_chain), hugetlb ? "0,0,0,0x10" : "0,0,0x10",
               static_cast<void*>(end + 0x110));

    forbid(small, 16 * PAGE);
    forbid(huge, HUGE_PAGE);
    forbid(split + 8 * PAGE, 16 * PAGE);
    if (hugetlb) forbid(hugetlb, HUGE_PAGE);
    if (giant) forbid(giant, GIANT_PAGE);
    forbid(code + 2 * PAGE, 4 * PAGE);
    forbid(shared, 4 * PAGE);
    forbid(swapped, 16 * PAGE);
}

// What the kernel balances between NUMA nodes: it makes pages PROT_NONE to see who uses them. It does so for
// all pages of a process with two threads, and only for those on another node of one with a single thread.
// The first thread sleeps for ever, so what its stack begins with, arguments and environment, is not used.
void numabal(Truth& truth) {
    prctl(PR_SET_NAME, "numabal");
    g_sampled = map_anonymous(SAMPLED);
    madvise(g_sampled, SAMPLED, MADV_NOHUGEPAGE);
    mark(truth, "NUMABAL", g_sampled, SAMPLED);
    bool has_huge;
    auto* huge = map_huge(2 * HUGE_PAGE, has_huge);
    mark(truth, "NUMATHP", huge, 2 * HUGE_PAGE);
    start_thread(use_pages, "numabal-user");
    truth.ready();
    for (;;) pause();
}

// Moves its pages from node to node and back for ever, once the guest stands still. Where frames change all
// the time, the witness does not compare them: between 0x200000000000 and 0x300000000000.
void mover(Truth& truth) {
    prctl(PR_SET_NAME, "mover");
    // What is not present when its accesses are sampled cannot be moved.
    lab::keep_present();
    constexpr size_t SMALL_PAGES = 256;
    constexpr size_t HUGE_PAGES = 4;
    auto fixed = [](uintptr_t at, size_t len) {
        void* wanted = reinterpret_cast<void*>(at);
        if (mmap(wanted, len, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != wanted)
            fail("mmap");
        return static_cast<unsigned char*>(wanted);
    };
    auto* small = fixed(0x200000000000, SMALL_PAGES * PAGE);
    madvise(small, SMALL_PAGES * PAGE, MADV_NOHUGEPAGE);
    mark(truth, "MOVER", small, SMALL_PAGES * PAGE);
    auto* huge = fixed(0x210000000000, HUGE_PAGES * HUGE_PAGE);
    madvise(huge, HUGE_PAGES * HUGE_PAGE, MADV_HUGEPAGE);
    mark(truth, "MOVERTHP", huge, HUGE_PAGES * HUGE_PAGE);
    static void* pages[SMALL_PAGES + HUGE_PAGES];
    for (size_t i = 0; i < SMALL_PAGES; i++) pages[i] = small + i * PAGE;
    for (size_t i = 0; i < HUGE_PAGES; i++) pages[SMALL_PAGES + i] = huge + i * HUGE_PAGE;
    truth.ready();
    bool announced = false;
    for (int node = 1;; node ^= 1) {
        beat();
        announced = announced || access("/lab/out/announced", F_OK) == 0;
        if (announced) move_to(pages, SMALL_PAGES + HUGE_PAGES, node);
        // The others want the CPU, too.
        lab::nap(announced ? 20 : 40);
    }
}

}  // namespace crowd
