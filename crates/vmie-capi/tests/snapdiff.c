/* snapdiff.h: rightly used, wrongly used, and against a reference implementation that looks at every byte. */
#define _POSIX_C_SOURCE 200809L
#include "changed.h"

#include <pthread.h>
#include <snapdiff.h>

#define PAGE UINT64_C(4096)

/* The entry that maps a page of 4 KiB. */
static unsigned char *entry_of(uint64_t va)
{
    uint64_t table = BARE_CR3;
    for (int level = 3; level > 0; level--) {
        uint64_t entry = 0;
        memcpy(&entry, at_gpa(table + ((va >> (12 + 9 * level)) & 511) * 8), 8);
        CHECK((entry & 1) != 0 && (entry & 0x80) == 0);
        table = entry & UINT64_C(0x000ffffffffff000);
    }
    return at_gpa(table + ((va >> 12) & 511) * 8);
}

/* ---- The reference implementation -------------------------------------------------------------------------------------------- */

/* Asks both sides about each byte of a window, whose pages are mapped and there, or not mapped. */
static int reference(vmie_mem *before, vmie_mem *now, uint64_t lo, uint64_t hi, uint32_t any, vregion *out, int max)
{
    int total = 0;
    vregion open = {0, 0, 0};
    for (uint64_t page = lo; page <= hi; page += PAGE) {
        vregion region[2];
        int there[2], mapped[2];
        unsigned char bytes[2][4096];
        vmie_mem *sides[2] = {before, now};
        for (int side = 0; side < 2; side++) {
            mapped[side] = vmie_regions(sides[side], BARE_CR3, page, page, &region[side], 1) == 1;
            there[side] = mapped[side] && (any == 0 || (region[side].prot & any) != 0);
            if (there[side])
                CHECK(vmie_read(sides[side], BARE_CR3, page, bytes[side], sizeof bytes[side], NULL) == 0);
        }
        uint32_t prot = mapped[1] ? region[1].prot : 0;
        for (uint64_t i = 0; i < PAGE; i++) {
            if (there[0] == there[1] && (!there[0] || bytes[0][i] == bytes[1][i]))
                continue;
            if (open.len > 0 && open.va + open.len == page + i && open.prot == prot) {
                open.len++;
                continue;
            }
            if (open.len > 0) {
                if (total < max)
                    out[total] = open;
                total++;
            }
            open.va = page + i;
            open.len = 1;
            open.prot = prot;
        }
    }
    if (open.len > 0) {
        if (total < max)
            out[total] = open;
        total++;
    }
    return total;
}

static void same(vmie_mem *before, vmie_mem *now, uint64_t lo, uint64_t hi, uint32_t any, int least)
{
    enum { MOST = 4096 };
    static vregion ours[MOST], theirs[MOST];
    snapshot *s = snap_take(before, BARE_CR3, lo, hi, any);
    CHECK(s != NULL);
    int total = snap_diff(s, now, BARE_CR3, ours, MOST);
    CHECK(total >= least && total <= MOST);
    CHECK(reference(before, now, lo, hi, any, theirs, MOST) == total);
    for (int i = 0; i < total; i++)
        CHECK(ours[i].va == theirs[i].va && ours[i].len == theirs[i].len && ours[i].prot == theirs[i].prot);
    CHECK(snap_diff(s, now, BARE_CR3, NULL, 0) == total);
    snap_free(s);
}

/* ---- Tests ----------------------------------------------------------------------------------------------- */

static void misuse(vmie_mem *m)
{
    vregion region;
    vmie_coverage coverage;
    FAILS(snap_take(NULL, BARE_CR3, 0, UINT64_MAX, 0), NULL, VMIE_E_ARGUMENT);
    FAILS(snap_take(m, BARE_CR3, 2, 1, 0), NULL, VMIE_E_ARGUMENT);
    FAILS(snap_take(m, BARE_CR3, 0, UINT64_MAX, 0x10), NULL, VMIE_E_ARGUMENT);
    FAILS(snap_take(m, 0x7fffff000, 0, UINT64_MAX, 0), NULL, VMIE_E_PAGING);
    /* A page that is mapped, and not in the image: there is nothing that a comparison could tell. */
    FAILS(snap_take(m, BARE_CR3, BARE_ABSENT_PAGE, BARE_ABSENT_PAGE + 0xfff, 0), NULL, VMIE_E_UNREADABLE);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.absent == 0x1000 && !coverage.complete);
    snap_free(NULL);
    CHECK(vmie_last_error() == VMIE_OK);

    snapshot *s = snap_take(m, BARE_CR3, BARE_DATA, BARE_DATA + BARE_DATA_LEN - 1, 0);
    CHECK(s != NULL);
    FAILS(snap_diff(NULL, m, BARE_CR3, &region, 1), -1, VMIE_E_ARGUMENT);
    FAILS(snap_diff(s, NULL, BARE_CR3, &region, 1), -1, VMIE_E_ARGUMENT);
    FAILS(snap_diff(s, m, BARE_CR3, &region, -1), -1, VMIE_E_ARGUMENT);
    FAILS(snap_diff(s, m, BARE_CR3, NULL, -1), -1, VMIE_E_ARGUMENT);
    FAILS(snap_diff(s, m, 0x7fffff000, &region, 1), -1, VMIE_E_PAGING);
    CHECK(snap_diff(s, m, BARE_CR3, &region, 1) == 0);
    CHECK(snap_diff(s, m, BARE_CR3, NULL, 7) == 0);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.complete && coverage.read == BARE_DATA_LEN);
    snap_free(s);

    /* Where nothing is mapped there is nothing, which is known. */
    s = snap_take(m, BARE_CR3, 0x1000, 0x1fff, 0);
    CHECK(s != NULL && snap_diff(s, m, BARE_CR3, &region, 1) == 0);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.complete);
    snap_free(s);
    /* What cannot be read is neither changed nor unchanged. */
    s = snap_take(m, BARE_CR3, BARE_HOLED, BARE_HOLED + BARE_HOLED_LEN - 1, 0);
    CHECK(s != NULL && snap_diff(s, m, BARE_CR3, &region, 1) == 0);
    CHECK(vmie_last_coverage(&coverage) == 0 && !coverage.complete && coverage.absent == 0x1000);
    snap_free(s);
}

static void changes(vmie_mem *m, const char *dir)
{
    vregion list[4];
    snapshot *s = snap_take(m, BARE_CR3, 0, (UINT64_C(1) << 47) - 1, VMIE_PROT_W);
    CHECK(s != NULL);
    unsigned char *data = at_va(m, BARE_DATA);
    data[0x10] ^= 1, data[0x11] ^= 1, data[0x12] ^= 1, data[0x20] ^= 0x80;
    /* Over the border of two pages, whose frames need not be next to each other. */
    for (uint64_t i = 0xffc; i < 0x1004; i++)
        *at_va(m, BARE_HEAP + i) ^= 0xff;
    /* What has none of the bits is not looked at. */
    *at_va(m, BARE_RODATA) ^= 1;
    vmie_mem *now = reopened(dir);
    memset(list, 0xee, sizeof list);
    CHECK(snap_diff(s, now, BARE_CR3, list, 2) == 3);
    const vregion expected[] = {
        {BARE_DATA + 0x10, 3, VMIE_PROT_R | VMIE_PROT_W | VMIE_PROT_USER},
        {BARE_DATA + 0x20, 1, VMIE_PROT_R | VMIE_PROT_W | VMIE_PROT_USER},
        {BARE_HEAP + 0xffc, 8, VMIE_PROT_R | VMIE_PROT_W | VMIE_PROT_USER},
    };
    CHECK(list[2].va == UINT64_C(0xeeeeeeeeeeeeeeee));
    CHECK(snap_diff(s, now, BARE_CR3, list, 4) == 3);
    for (int i = 0; i < 3; i++)
        CHECK(list[i].va == expected[i].va && list[i].len == expected[i].len && list[i].prot == expected[i].prot);
    snap_free(s);
    vmie_close(now);
}

static void mappings(vmie_mem *m, const char *dir)
{
    const uint64_t lo = BARE_DATA, hi = BARE_DATA + BARE_DATA_LEN - 1;
    vregion run;
    vmie_mem *before = reopened(dir);
    unsigned char *entry = entry_of(BARE_DATA);

    /* Not mapped any more, and mapped again. */
    *entry &= ~1;
    vmie_mem *without = reopened(dir);
    snapshot *s = snap_take(before, BARE_CR3, lo, hi, 0);
    CHECK(snap_diff(s, without, BARE_CR3, &run, 1) == 1);
    CHECK(run.va == lo && run.len == PAGE && run.prot == 0);
    snap_free(s);
    s = snap_take(without, BARE_CR3, lo, hi, 0);
    CHECK(snap_diff(s, before, BARE_CR3, &run, 1) == 1);
    CHECK(run.va == lo && run.len == PAGE && run.prot == (VMIE_PROT_R | VMIE_PROT_W | VMIE_PROT_USER));
    snap_free(s);
    same(before, without, lo, hi, 0, 1);
    vmie_close(without);

    /* Read-only: no byte has changed, but what is writable has disappeared. */
    *entry = (unsigned char)((*entry | 1) & ~2);
    vmie_mem *read_only = reopened(dir);
    s = snap_take(before, BARE_CR3, lo, hi, 0);
    /* It does not need the guest it was taken of. */
    CHECK(snap_diff(s, read_only, BARE_CR3, &run, 1) == 0);
    snap_free(s);
    s = snap_take(before, BARE_CR3, lo, hi, VMIE_PROT_W);
    CHECK(snap_diff(s, read_only, BARE_CR3, &run, 1) == 1);
    CHECK(run.va == lo && run.len == PAGE && run.prot == (VMIE_PROT_R | VMIE_PROT_USER));
    snap_free(s);
    same(read_only, before, lo, hi, VMIE_PROT_W, 1);
    same(before, read_only, lo, hi, VMIE_PROT_W, 1);
    same(before, read_only, lo, hi, 0, 0);
    vmie_close(read_only);
    *entry |= 2;
    vmie_close(before);
    (void)m;
}

static void at_random(vmie_mem *m, const char *dir)
{
    const uint64_t lo = BARE_HEAP, hi = BARE_HEAP + BARE_HEAP_LEN - 1;
    uint64_t state = 1;
    for (int round = 0; round < 6; round++) {
        vmie_mem *before = reopened(dir);
        for (int i = 0; i < 40; i++) {
            state = state * UINT64_C(6364136223846793005) + 1;
            uint64_t at = (state >> 33) % BARE_HEAP_LEN, len = 1 + (state >> 20) % 9;
            for (uint64_t j = at; j < at + len && j < BARE_HEAP_LEN; j++)
                *at_va(m, BARE_HEAP + j) ^= (unsigned char)(1 + (state >> 40) % 255);
        }
        vmie_mem *now = reopened(dir);
        same(before, now, lo, hi, round % 2 == 0 ? 0 : VMIE_PROT_W, 10);
        vmie_close(before);
        vmie_close(now);
    }
}

struct shared {
    const snapshot *s;
    vmie_mem *m;
};

static void *comparer(void *arg)
{
    const struct shared *shared = arg;
    for (int i = 0; i < 20; i++)
        CHECK(snap_diff(shared->s, shared->m, BARE_CR3, NULL, 0) == 0);
    return NULL;
}

static void threads(vmie_mem *m)
{
    snapshot *s = snap_take(m, BARE_CR3, BARE_HEAP, BARE_HEAP + BARE_HEAP_LEN - 1, 0);
    struct shared shared = {s, m};
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, comparer, &shared) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    snap_free(s);
}

/* What differs between two address spaces of one guest. */
static void agree(char **argv)
{
    vmie_mem *m = open_guest(argv[3], argv[4]);
    CHECK(strcmp(argv[2], "changes") == 0);
    uintptr_t before = (uintptr_t)number(argv[5]), now = (uintptr_t)number(argv[6]);
    snapshot *s = snap_take(m, before, number(argv[7]), number(argv[8]), 0);
    CHECK(s != NULL);
    int count = snap_diff(s, m, now, NULL, 0);
    CHECK(count >= 0);
    vregion *list = room(count, sizeof *list);
    CHECK(snap_diff(s, m, now, list, count) == count);
    for (int i = 0; i < count; i++)
        printf("{\"va\":\"0x%" PRIx64 "\",\"len\":%" PRIu64 ",\"prot\":\"%s\"}\n", list[i].va, list[i].len,
               prot_text(list[i].prot));
    free(list);
    snap_free(s);
    vmie_close(m);
}

int main(int argc, char **argv)
{
    if (argc == 9 && strcmp(argv[1], "agree") == 0) {
        agree(argv);
        return 0;
    }
    CHECK(argc == 5 && strcmp(argv[1], "check") == 0);
    vmie_mem *m = open_guest(argv[2], "-");
    load(argv[2]);
    misuse(m);
    changes(m, argv[4]);
    mappings(m, argv[4]);
    at_random(m, argv[4]);
    threads(m);
    vmie_close(m);
    free(image);
    return 0;
}
