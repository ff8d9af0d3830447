/* memmodel.h: rightly used, wrongly used, and what it reads from a guest. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

_Static_assert(sizeof(vregion) == 24, "as documented");
_Static_assert(sizeof(vmie_cpu) == 48, "as the library has it");
_Static_assert(sizeof(vmie_mapping) == 24, "as the library has it");
_Static_assert(sizeof(vmie_coverage) == 56, "as the library has it");

static void versions(void)
{
    CHECK(vmie_version_number() == VMIE_VERSION_NUMBER);
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", VMIE_VERSION_MAJOR, VMIE_VERSION_MINOR, VMIE_VERSION_PATCH);
    CHECK(strcmp(vmie_version(), text) == 0);
}

static void nulls(vmie_mem *m)
{
    vregion region;
    vmie_cpu cpu;
    vmie_mapping mapping;
    vmie_coverage coverage;
    char buf[8];
    size_t done = 99;

    FAILS(vmie_open(NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(vmie_open_layout(NULL, "pc"), NULL, VMIE_E_ARGUMENT);
    vmie_close(NULL);
    CHECK(vmie_last_error() == VMIE_OK);
    FAILS(vmie_format(NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(vmie_note(NULL, 0), NULL, VMIE_E_ARGUMENT);
    FAILS(vmie_is_live(NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_pause(NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_resume(NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_set_threads(NULL, 1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_ranges(NULL, &region, 1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_cpus(NULL, &cpu, 1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_set_paging(NULL, VMIE_PAGING_AUTO), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_paging(NULL, BARE_CR3, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_translate(NULL, BARE_CR3, BARE_BANNER, &mapping), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_translate(m, BARE_CR3, BARE_BANNER, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_read(NULL, BARE_CR3, BARE_BANNER, buf, sizeof buf, &done), -1, VMIE_E_ARGUMENT);
    CHECK(done == 0);
    FAILS(vmie_read(m, BARE_CR3, BARE_BANNER, NULL, 8, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_read_phys(NULL, 0, buf, sizeof buf, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_regions(NULL, BARE_CR3, 0, UINT64_MAX, &region, 1), -1, VMIE_E_ARGUMENT);
    CHECK(vmie_last_coverage(&coverage) == -1);
    CHECK(vmie_last_coverage(NULL) == -1);
}

static void senseless(vmie_mem *m)
{
    vregion region;
    char buf[8];

    FAILS(vmie_ranges(m, &region, -1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_cpus(m, NULL, -1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_regions(m, BARE_CR3, 0, UINT64_MAX, &region, -1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_regions(m, BARE_CR3, 2, 1, &region, 1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_note(m, -1), NULL, VMIE_E_ARGUMENT);
    FAILS(vmie_set_threads(m, -1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_set_paging(m, 5), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_set_paging(m, -1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_paging(m, VMIE_PHYS, NULL), -1, VMIE_E_ARGUMENT);
    vmie_mapping mapping;
    FAILS(vmie_translate(m, VMIE_PHYS, 0, &mapping), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_pause(m), -1, VMIE_E_UNSUPPORTED);
    FAILS(vmie_resume(m), -1, VMIE_E_UNSUPPORTED);

    /* No root is there, or none can be. */
    FAILS(vmie_regions(m, 0x7fffff000, 0, UINT64_MAX, &region, 1), -1, VMIE_E_PAGING);
    /* Where nothing looks like tables the CPU's mode is a guess, and all of the space is not empty. */
    int confirmed = -1;
    CHECK(vmie_paging(m, 0x3000, &confirmed) == VMIE_PAGING_4LEVEL && confirmed == 0);
    FAILS(vmie_regions(m, 0x3000, 0, UINT64_MAX, &region, 1), -1, VMIE_E_PAGING);
    CHECK(vmie_regions(m, 0x3000, 0, UINT64_MAX - 1, &region, 1) == 0);

    /* Sizes that no memory has. */
    FAILS(vmie_read(m, BARE_CR3, BARE_BANNER, buf, SIZE_MAX, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_read(m, BARE_CR3, UINT64_MAX, buf, 2, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_read_phys(m, UINT64_MAX - 6, buf, 8, NULL), -1, VMIE_E_ARGUMENT);
    CHECK(vmie_read(m, BARE_CR3, 0, NULL, 0, NULL) == 0);
}

static void sources(const char *source, const char *dir)
{
    char path[4096];
    FAILS(vmie_open(""), NULL, VMIE_E_OPEN);
    FAILS(vmie_open(dir), NULL, VMIE_E_OPEN);
    FAILS(vmie_open("/nothing/here"), NULL, VMIE_E_OPEN);
    FAILS(vmie_open("qemu:/nothing/here"), NULL, VMIE_E_OPEN);
    FAILS(vmie_open_layout(source, "nonsense"), NULL, VMIE_E_SYNTAX);
    /* A core says itself where its bytes belong. */
    FAILS(vmie_open_layout(source, "q35"), NULL, VMIE_E_OPEN);

    /* The same image, cut in the middle of its last segment, and within its headers. */
    FILE *in = fopen(source, "rb");
    CHECK(in != NULL);
    static char bytes[13 << 20];
    size_t len = fread(bytes, 1, sizeof bytes, in);
    CHECK(len > 9 << 20 && len < sizeof bytes);
    fclose(in);
    const size_t cuts[] = {len - (1 << 20), 9 << 20, 4096, 100, 1, 0};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        snprintf(path, sizeof path, "%s/cut", dir);
        FILE *out = fopen(path, "wb");
        CHECK(out != NULL && fwrite(bytes, 1, cuts[i], out) == cuts[i]);
        fclose(out);
        vmie_mem *m = vmie_open(path);
        if (m == NULL) {
            CHECK(vmie_last_error() == VMIE_E_OPEN);
            CHECK(cuts[i] <= 4096);
            continue;
        }
        CHECK(vmie_note(m, 0) != NULL);
        /* What lies behind the cut is not there, and not zeros. */
        char last[8];
        size_t done;
        FAILS(vmie_read_phys(m, (UINT64_C(4) << 30) + (4 << 20) - 8, last, 8, &done), -1,
              VMIE_E_UNREADABLE);
        CHECK(done == 0);
        vmie_close(m);
    }
}

static void guest(vmie_mem *m)
{
    CHECK(strcmp(vmie_format(m), "elf") == 0);
    CHECK(vmie_note(m, 0) == NULL && vmie_last_error() == VMIE_OK);
    CHECK(vmie_is_live(m) >= 0);

    vregion ranges[2];
    CHECK(vmie_ranges(m, NULL, 0) == 2);
    CHECK(vmie_ranges(m, ranges, 2) == 2);
    CHECK(ranges[0].va == 0 && ranges[0].len == 8 << 20 && ranges[0].prot == 7);
    CHECK(ranges[1].va == UINT64_C(4) << 30 && ranges[1].len == 4 << 20);

    vmie_cpu cpu;
    CHECK(vmie_cpus(m, &cpu, 1) == 1);
    CHECK(cpu.cr3 == BARE_CR3 && cpu.paging == VMIE_PAGING_4LEVEL && cpu.index == 0);
    int confirmed = -1;
    CHECK(vmie_paging(m, BARE_CR3, &confirmed) == VMIE_PAGING_4LEVEL && confirmed == 1);
    /* Flag bits of a CR3 do not count. */
    CHECK(vmie_paging(m, BARE_CR3 | 0x18, NULL) == VMIE_PAGING_4LEVEL);

    char text[sizeof BARE_BANNER_TEXT] = "";
    size_t len = sizeof text - 1, done = 0;
    CHECK(vmie_read(m, BARE_CR3, BARE_BANNER, text, len, &done) == 0 && done == len);
    CHECK(strcmp(text, BARE_BANNER_TEXT) == 0);
    vmie_mapping at;
    CHECK(vmie_translate(m, BARE_CR3, BARE_BANNER, &at) == 0);
    CHECK(at.page_size == 4096 && at.prot == (VMIE_PROT_R | VMIE_PROT_USER) && at.reserved == 0);
    memset(text, 0, sizeof text);
    CHECK(vmie_read_phys(m, at.gpa, text, len, NULL) == 0);
    CHECK(strcmp(text, BARE_BANNER_TEXT) == 0);

    /* Into the hole, and from a page that is swapped out. */
    static char page[3 * 4096];
    FAILS(vmie_read(m, BARE_CR3, BARE_HOLED, page, sizeof page, &done), -1, VMIE_E_UNREADABLE);
    CHECK(done == BARE_ABSENT_PAGE - BARE_HOLED);
    CHECK(vmie_last_error_address() == BARE_ABSENT_PAGE);
    FAILS(vmie_read(m, BARE_CR3, BARE_SWAPPED_PAGE, page, 1, &done), -1, VMIE_E_NOT_MAPPED);
    CHECK(done == 0 && vmie_last_error_address() == BARE_SWAPPED_PAGE);
    FAILS(vmie_translate(m, BARE_CR3, BARE_SWAPPED_PAGE, &at), -1, VMIE_E_NOT_MAPPED);
    FAILS(vmie_read_phys(m, BARE_ABSENT_GPA, page, 1, NULL), -1, VMIE_E_UNREADABLE);
    /* The next call forgets. */
    CHECK(vmie_is_live(m) >= 0 && vmie_last_error() == VMIE_OK);
    CHECK(strcmp(vmie_last_error_text(), "") == 0 && vmie_last_error_address() == 0);

    /* In another mode the same tables are other ones. */
    CHECK(vmie_set_paging(m, VMIE_PAGING_5LEVEL) == 0);
    CHECK(vmie_paging(m, BARE_CR3, NULL) == VMIE_PAGING_5LEVEL);
    CHECK(vmie_translate(m, BARE_CR3, BARE_BANNER, &at) == -1);
    CHECK(vmie_set_paging(m, VMIE_PAGING_AUTO) == 0);
    CHECK(vmie_translate(m, BARE_CR3, BARE_BANNER, &at) == 0);
}

static void regions(vmie_mem *m)
{
    const uint64_t lo = BARE_TEXT, hi = BARE_DATA + BARE_DATA_LEN - 1;
    vregion all[8], some[8];
    memset(some, 0xee, sizeof some);
    CHECK(vmie_regions(m, BARE_CR3, lo, hi, NULL, 0) == 3);
    CHECK(vmie_regions(m, BARE_CR3, lo, hi, NULL, 8) == 3);
    CHECK(vmie_regions(m, BARE_CR3, lo, hi, all, 8) == 3);
    CHECK(vmie_regions(m, BARE_CR3, lo, hi, some, 2) == 3);
    for (int i = 0; i < 2; i++)
        CHECK(some[i].va == all[i].va && some[i].len == all[i].len && some[i].prot == all[i].prot);
    CHECK(some[2].va == UINT64_C(0xeeeeeeeeeeeeeeee));
    CHECK(all[0].va == BARE_TEXT && all[0].len == BARE_TEXT_LEN);
    CHECK(all[0].prot == (VMIE_PROT_R | VMIE_PROT_X | VMIE_PROT_USER));

    /* Cut to what was asked for; both ends belong to it. */
    CHECK(vmie_regions(m, BARE_CR3, lo + 0x10, lo + 0x10, all, 8) == 1);
    CHECK(all[0].va == lo + 0x10 && all[0].len == 1);
    vmie_coverage coverage;
    CHECK(vmie_last_coverage(&coverage) == 0);
    CHECK(coverage.mapped == 1 && coverage.read == 0 && coverage.lost == 0 && coverage.complete == 1);

    /* Nothing there is an answer. */
    CHECK(vmie_regions(m, BARE_CR3, 0, 0xfff, all, 8) == 0);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.unmapped == 0x1000);

    /* Physical memory. */
    CHECK(vmie_regions(m, VMIE_PHYS, 0, UINT64_MAX, all, 8) == 2);
    CHECK(all[1].va == UINT64_C(4) << 30 && all[1].prot == 7);
}

/* Many threads on one handle, each with a last error of its own. */
static void *reader(void *handle)
{
    for (int i = 0; i < 50; i++) {
        char text[4];
        CHECK(vmie_read(handle, BARE_CR3, BARE_BANNER, text, 4, NULL) == 0);
        CHECK(memcmp(text, BARE_BANNER_TEXT, 4) == 0 && vmie_last_error() == VMIE_OK);
        CHECK(vmie_regions(handle, BARE_CR3, BARE_TEXT, BARE_TEXT + 1, NULL, 0) == 1);
    }
    return NULL;
}

static void *stray(void *handle)
{
    for (int i = 0; i < 50; i++) {
        char text[4];
        FAILS(vmie_read(handle, BARE_CR3, BARE_SWAPPED_PAGE, text, 4, NULL), -1, VMIE_E_NOT_MAPPED);
        FAILS(vmie_regions(handle, BARE_CR3, 1, 0, NULL, 0), -1, VMIE_E_ARGUMENT);
        CHECK(vmie_last_coverage(&(vmie_coverage){0}) == -1);
        CHECK(vmie_set_paging(handle, i % 2 ? VMIE_PAGING_AUTO : VMIE_PAGING_4LEVEL) == 0);
    }
    return NULL;
}

static void threads(vmie_mem *m)
{
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, i % 2 ? stray : reader, m) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
}

static void agree(int argc, char **argv)
{
    vmie_mem *m = open_guest(argv[3], argv[4]);
    uintptr_t cr3 = (uintptr_t)number(argv[5]);
    if (strcmp(argv[2], "regions") == 0) {
        uint64_t lo = number(argv[6]), hi = number(argv[7]);
        int count = vmie_regions(m, cr3, lo, hi, NULL, 0);
        vregion *list = room(count, sizeof *list);
        CHECK(vmie_regions(m, cr3, lo, hi, list, count) == count);
        for (int i = 0; i < count; i++)
            printf("{\"va\":\"0x%" PRIx64 "\",\"len\":%" PRIu64 ",\"prot\":\"%s\",\"user\":%s}\n",
                   list[i].va, list[i].len, prot_text(list[i].prot), user_text(list[i].prot));
        free(list);
    } else if (strcmp(argv[2], "translate") == 0) {
        for (int i = 6; i < argc; i++) {
            vmie_mapping at;
            CHECK(vmie_translate(m, cr3, number(argv[i]), &at) == 0);
            printf("{\"va\":\"0x%" PRIx64 "\",\"gpa\":\"0x%" PRIx64 "\",\"page_size\":%" PRIu64
                   ",\"prot\":\"%s\",\"user\":%s}\n",
                   number(argv[i]), at.gpa, at.page_size, prot_text(at.prot), user_text(at.prot));
        }
    } else if (strcmp(argv[2], "read") == 0) {
        uint64_t va = number(argv[6]), words[64];
        size_t len = (size_t)number(argv[7]);
        CHECK(len <= sizeof words && vmie_read(m, cr3, va, words, len, NULL) == 0);
        for (size_t i = 0; i < len / 8; i++)
            printf("{\"va\":\"0x%" PRIx64 "\",\"value\":\"0x%" PRIx64 "\"}\n", va + 8 * i, words[i]);
    } else {
        CHECK(!"a question that is known");
    }
    vmie_close(m);
}

/* Says what was done, and waits until it was looked at from outside. */
static void step(const char *what)
{
    char line[16];
    printf("%s\n", what);
    fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin) != NULL);
}

/* A guest that runs; in the end it quits. */
static void live(const char *source)
{
    char page[4096];
    vmie_mem *m = vmie_open(source);
    CHECK(m != NULL && strcmp(vmie_format(m), "qemu") == 0 && vmie_is_live(m) == 1);
    CHECK(vmie_ranges(m, NULL, 0) > 0 && vmie_cpus(m, NULL, 0) == 1);
    CHECK(vmie_read_phys(m, 0, page, sizeof page, NULL) == 0);
    step("opened");
    /* Paused is paused. */
    CHECK(vmie_pause(m) == 0 && vmie_pause(m) == 0);
    CHECK(vmie_read_phys(m, 0, page, sizeof page, NULL) == 0);
    step("paused");
    CHECK(vmie_resume(m) == 0 && vmie_resume(m) == 0);
    step("resumed");
    CHECK(vmie_pause(m) == 0);
    step("paused");
    vmie_close(m);
    step("closed");

    m = vmie_open(source);
    CHECK(m != NULL);
    step("opened");
    FAILS(vmie_read_phys(m, 0, page, sizeof page, NULL), -1, VMIE_E_GONE);
    CHECK(vmie_pause(m) == -1 && vmie_last_error() != VMIE_OK);
    CHECK(vmie_resume(m) == 0);
    vmie_close(m);
    FAILS(vmie_open(source), NULL, VMIE_E_OPEN);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "live") == 0) {
        live(argv[2]);
        return 0;
    }
    if (argc > 5 && strcmp(argv[1], "agree") == 0) {
        agree(argc, argv);
        return 0;
    }
    CHECK(argc == 5 && strcmp(argv[1], "check") == 0);
    versions();
    vmie_mem *m = open_guest(argv[2], "-");
    CHECK(number(argv[3]) == BARE_CR3);
    nulls(m);
    senseless(m);
    sources(argv[2], argv[4]);
    guest(m);
    regions(m);
    threads(m);
    vmie_close(m);
    return 0;
}
