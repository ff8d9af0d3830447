/* scan.h: rightly used, wrongly used; what it finds is what the command finds. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <scan.h>

_Static_assert(sizeof(sig_match) == 16, "as the library has it");
_Static_assert(sizeof(code_xref) == 24, "as the library has it");
_Static_assert(sizeof(value_hit) == 16, "as the library has it");
_Static_assert(sizeof(scan_path) == 80, "as the library has it");

/* ---- Windows ---- */

struct seen {
    vmie_mem *m;
    uint64_t next;  /* where the next window has to begin, unless there is a hole */
    uint64_t owned; /* bytes */
    int windows;
    int most; /* ends the sweep after so many */
};

static int look(const scan_window *window, void *user)
{
    struct seen *seen = user;
    CHECK(window->owned > 0 && window->owned <= window->len);
    CHECK(window->va >= seen->next);
    seen->next = window->va + window->owned;
    seen->owned += window->owned;
    seen->windows++;
    /* The same as a read says, which may be called from here. */
    static unsigned char bytes[1 << 16];
    CHECK(window->len <= sizeof bytes);
    CHECK(vmie_read(seen->m, BARE_CR3, window->va, bytes, window->len, NULL) == 0);
    CHECK(memcmp(bytes, window->bytes, window->len) == 0);
    return seen->windows == seen->most;
}

static void windows(vmie_mem *m)
{
    /* Four pages, of which the third is a hole. */
    const uint64_t lo = BARE_HOLED, hi = BARE_HOLED + BARE_HOLED_LEN - 1;
    const size_t sizes[] = {0, 1000, 4096, 8192, 16384};
    vmie_coverage coverage;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct seen seen = {.m = m};
        CHECK(gva_sweep(m, BARE_CR3, lo, hi, 0, sizes[i], 16, look, &seen) == 0);
        CHECK(seen.owned == BARE_HOLED_LEN - 4096);
        CHECK(vmie_last_coverage(&coverage) == 0);
        CHECK(coverage.mapped == BARE_HOLED_LEN && coverage.read == seen.owned);
        CHECK(coverage.absent == 4096 && coverage.gaps == 1);
        CHECK(coverage.complete == 0 && coverage.stopped == 0);
    }
    struct seen seen = {.m = m, .most = 2};
    CHECK(gva_sweep(m, BARE_CR3, lo, hi, 0, 64, 0, look, &seen) == 1);
    CHECK(seen.windows == 2 && seen.owned == 128);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.stopped == 1 && coverage.read == 128);

    /* Could not look is not "nothing there", also where nothing is mapped or allowed. */
    seen = (struct seen){.m = m};
    FAILS(gva_sweep(m, BARE_CR3, BARE_ABSENT_PAGE, BARE_ABSENT_PAGE + 9, 0, 0, 0, look, &seen), -1,
          VMIE_E_UNREADABLE);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.absent == 10 && coverage.read == 0);
    FAILS(gva_sweep(m, BARE_CR3, 0, 0xfff, 0, 0, 0, look, &seen), -1, VMIE_E_UNREADABLE);
    FAILS(gva_sweep(m, BARE_CR3, lo, hi, VMIE_PROT_X, 0, 0, look, &seen), -1, VMIE_E_UNREADABLE);
    CHECK(seen.windows == 0);

    FAILS(gva_sweep(NULL, BARE_CR3, lo, hi, 0, 0, 0, look, &seen), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sweep(m, BARE_CR3, lo, hi, 0, 0, 0, NULL, &seen), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sweep(m, BARE_CR3, hi, lo, 0, 0, 0, look, &seen), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sweep(m, BARE_CR3, lo, hi, VMIE_PROT_OTHER_X, 0, 0, look, &seen), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sweep(m, BARE_CR3, lo, hi, 32, 0, 0, look, &seen), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sweep(m, BARE_CR3, lo, hi, 0, SIZE_MAX, 0, look, &seen), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sweep(m, BARE_CR3, lo, hi, 0, 1, SIZE_MAX, look, &seen), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sweep(m, 0x7fffff000, lo, hi, 0, 0, 0, look, &seen), -1, VMIE_E_PAGING);
    CHECK(vmie_last_coverage(&coverage) == -1);
}

/* ---- Signatures ---- */

static void signatures(vmie_mem *m)
{
    vmie_sig *sig = sig_parse(BARE_SIGNATURE), *none = sig_parse("\"is nowhere in it\"");
    CHECK(sig != NULL && none != NULL);
    uint64_t va[2] = {0, 7};
    CHECK(gva_sig_scan(m, BARE_CR3, BARE_TEXT, BARE_TEXT + BARE_TEXT_LEN - 1, 0, sig, va, 2) == 1);
    CHECK(va[0] == BARE_SIGNATURE_VA && va[1] == 7);
    /* Both ends belong to the range, and a match lies within it. */
    const uint64_t last = va[0] + sig_max_len(sig) - 1;
    CHECK(gva_sig_scan(m, BARE_CR3, va[0], last, 0, sig, NULL, 0) == 1);
    CHECK(gva_sig_scan(m, BARE_CR3, va[0], last - 1, 0, sig, NULL, 0) == 0);
    CHECK(gva_sig_scan(m, BARE_CR3, va[0] + 1, va[0] + 9, 0, sig, NULL, 0) == 0);
    vmie_coverage coverage;
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.complete == 1 && coverage.read == 9);

    /* Nothing is found, and something was not looked at. */
    CHECK(gva_sig_scan(m, BARE_CR3, BARE_HOLED, BARE_HOLED + BARE_HOLED_LEN - 1, 0, none, va, 2) == 0);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.complete == 0 && coverage.absent == 4096);
    FAILS(gva_sig_scan(m, BARE_CR3, BARE_ABSENT_PAGE, BARE_ABSENT_PAGE, 0, none, va, 2), -1,
          VMIE_E_UNREADABLE);

    /* In physical memory the two halves of the signature do not touch. */
    CHECK(gva_sig_scan(m, VMIE_PHYS, 0, UINT64_MAX, 0, sig, NULL, 0) == 0);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.read == 12 << 20 && coverage.unmapped == 0);

    const char *texts[] = {"C3", "55 48 89 E5"};
    struct sigset *set = sigset_compile(texts, NULL, 2, NULL);
    CHECK(set != NULL);
    sig_match all[600], some[3];
    const uint64_t lo = BARE_KERNEL_TEXT, hi = BARE_KERNEL_TEXT + 0xfff;
    int count = gva_sig_scan_multi(m, BARE_CR3, lo, hi, VMIE_PROT_X, set, all, 600);
    CHECK(count >= 512 && count < 600);
    for (int i = 1; i < count; i++)
        CHECK(all[i - 1].va < all[i].va || (all[i - 1].va == all[i].va && all[i - 1].sig < all[i].sig));
    CHECK(gva_sig_scan_multi(m, BARE_CR3, lo, hi, VMIE_PROT_X, set, some, 3) == count);
    CHECK(memcmp(some, all, sizeof some) == 0);

    FAILS(gva_sig_scan(NULL, BARE_CR3, lo, hi, 0, sig, va, 2), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sig_scan(m, BARE_CR3, lo, hi, 0, NULL, va, 2), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sig_scan(m, BARE_CR3, hi, lo, 0, sig, va, 2), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sig_scan(m, BARE_CR3, lo, hi, 0x80000000, sig, va, 2), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sig_scan(m, BARE_CR3, lo, hi, 0, sig, va, -1), -1, VMIE_E_ARGUMENT);
    CHECK(vmie_last_coverage(&coverage) == -1);
    FAILS(gva_sig_scan_multi(NULL, BARE_CR3, lo, hi, 0, set, all, 2), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sig_scan_multi(m, BARE_CR3, lo, hi, 0, NULL, all, 2), -1, VMIE_E_ARGUMENT);
    FAILS(gva_sig_scan_multi(m, BARE_CR3, lo, hi, 0, set, all, -2), -1, VMIE_E_ARGUMENT);
    sigset_free(set);
    sig_free(none);
    sig_free(sig);
}

/* ---- Code ---- */

static void code(vmie_mem *m)
{
    code_xref found[16];
    const uint64_t lo = BARE_TEXT, hi = BARE_TEXT + BARE_TEXT_LEN - 1;
    int count = gva_code_xref(m, BARE_CR3, lo, hi, 0, 0, BARE_TICKS, BARE_TICKS + 3, found, 16);
    CHECK(count > 0 && count <= 16);
    for (int i = 0; i < count; i++) {
        CHECK(found[i].kind == CODE_XREF_MEMORY && found[i].target == BARE_TICKS);
        CHECK(found[i].len > 4 && found[i].len < 16 && found[i].linear <= 1);
    }
    CHECK(gva_code_xref(m, BARE_CR3, lo, hi, 0, 64, BARE_TICKS, BARE_TICKS, NULL, 0) == count);
    /* Data is no code. */
    FAILS(gva_code_xref(m, BARE_CR3, BARE_DATA, BARE_DATA + 9, 0, 0, lo, hi, found, 16), -1,
          VMIE_E_UNREADABLE);
    CHECK(gva_code_xref(m, BARE_CR3, lo, hi, 0, 0, 1, 2, found, 16) == 0);

    FAILS(gva_code_xref(NULL, BARE_CR3, lo, hi, 0, 0, lo, hi, found, 16), -1, VMIE_E_ARGUMENT);
    FAILS(gva_code_xref(m, BARE_CR3, lo, hi, 0, 16, lo, hi, found, 16), -1, VMIE_E_ARGUMENT);
    FAILS(gva_code_xref(m, BARE_CR3, lo, hi, 0, 0, hi, lo, found, 16), -1, VMIE_E_ARGUMENT);
    FAILS(gva_code_xref(m, BARE_CR3, hi, lo, 0, 0, lo, hi, found, 16), -1, VMIE_E_ARGUMENT);
    FAILS(gva_code_xref(m, BARE_CR3, lo, hi, 99, 0, lo, hi, found, 16), -1, VMIE_E_ARGUMENT);
    FAILS(gva_code_xref(m, BARE_CR3, lo, hi, 0, 0, lo, hi, found, -1), -1, VMIE_E_ARGUMENT);
    FAILS(gva_code_xref(m, VMIE_PHYS, lo, hi, 0, 0, lo, hi, found, 16), -1, VMIE_E_ARGUMENT);
}

/* ---- Values ---- */

static void values(vmie_mem *m)
{
    value_hit found[8];
    const uint64_t lo = BARE_DATA, hi = BARE_DATA + BARE_DATA_LEN - 1;
    gva_value world = {.u = BARE_WORLD}, low, high;
    int count = gva_value_scan(m, BARE_CR3, lo, hi, 0, VALUE_U64, &world, NULL, 0, found, 8);
    CHECK(count >= 1 && found[0].va == BARE_ROOT_POINTER && found[0].value.u == BARE_WORLD);
    CHECK(gva_value_scan(m, BARE_CR3, lo, hi, 0, VALUE_U64, &world, &world, 1, NULL, 0) == count);

    /* The kernel's functions: mov eax, N with N from 0 to 0x3ff. As signed bytes, some are negative. */
    const uint64_t text = BARE_KERNEL_TEXT;
    low.i = -2, high.i = -1;
    count = gva_value_scan(m, BARE_CR3, text, text + 0xfff, 0, VALUE_I8, &low, &high, 0, found, 8);
    CHECK(count > 0 && count <= 8 && (found[0].value.i == -1 || found[0].value.i == -2));
    low.i = 255;
    FAILS(gva_value_scan(m, BARE_CR3, text, text + 9, 0, VALUE_I8, &low, NULL, 0, found, 8), -1,
          VMIE_E_ARGUMENT);

    /* Text as floats: every type of them goes both ways. */
    float single;
    double both;
    CHECK(vmie_read(m, BARE_CR3, BARE_BANNER, &single, sizeof single, NULL) == 0);
    CHECK(vmie_read(m, BARE_CR3, BARE_BANNER, &both, sizeof both, NULL) == 0);
    low.f = single;
    CHECK(gva_value_scan(m, BARE_CR3, BARE_BANNER, BARE_BANNER + 3, 0, VALUE_F32, &low, NULL, 1, found, 8) == 1);
    CHECK(found[0].value.f == (double)single);
    low.f = both, high.f = both;
    CHECK(gva_value_scan(m, BARE_CR3, BARE_BANNER, BARE_BANNER + 7, 0, VALUE_F64, &low, &high, 1, found, 8) == 1);
    CHECK(found[0].value.f == both);

    low.u = 2, high.u = 1;
    FAILS(gva_value_scan(m, BARE_CR3, lo, hi, 0, VALUE_U32, &low, &high, 0, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(NULL, BARE_CR3, lo, hi, 0, VALUE_U32, &low, NULL, 0, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(m, BARE_CR3, lo, hi, 0, 0, &low, NULL, 0, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(m, BARE_CR3, lo, hi, 0, 11, &low, NULL, 0, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(m, BARE_CR3, lo, hi, 0, -1, &low, NULL, 0, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(m, BARE_CR3, lo, hi, 0, VALUE_U32, NULL, &high, 0, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(m, BARE_CR3, lo, hi, 0, VALUE_U32, &low, NULL, 3, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(m, BARE_CR3, lo, hi, 0, VALUE_U32, &low, NULL, 8192, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(m, BARE_CR3, hi, lo, 0, VALUE_U32, &low, NULL, 0, found, 8), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_scan(m, BARE_CR3, lo, hi, 0, VALUE_U32, &low, NULL, 0, found, -8), -1, VMIE_E_ARGUMENT);
}

/* ---- Pointers ---- */

static void pointers(vmie_mem *m)
{
    const uint64_t lo = BARE_TEXT, hi = BARE_HEAP + BARE_HEAP_LEN - 1;
    const uint64_t from = BARE_DATA, to = BARE_DATA + BARE_DATA_LEN - 1;
    scan_path all[64], some[2];
    int count = scan_pointer(m, BARE_CR3, lo, hi, from, to, BARE_WORLD, 2, 0x100, all, 64);
    CHECK(count > 0);
    CHECK(all[0].base == BARE_ROOT_POINTER && all[0].depth == 1 && all[0].offsets[0] == 0);
    for (int i = 0; i < count && i < 64; i++) {
        /* Followed by hand it leads there. */
        uint64_t at = all[i].base;
        for (uint32_t step = 0; step < all[i].depth; step++) {
            CHECK(vmie_read(m, BARE_CR3, at, &at, sizeof at, NULL) == 0);
            at += (uint64_t)all[i].offsets[step];
        }
        CHECK(at == BARE_WORLD && (i == 0 || all[i - 1].depth <= all[i].depth));
        for (uint32_t step = all[i].depth; step < SCAN_PATH_DEPTH; step++)
            CHECK(all[i].offsets[step] == 0);
    }
    memset(some, 0xee, sizeof some);
    CHECK(scan_pointer(m, BARE_CR3, lo, hi, from, to, BARE_WORLD, 2, 0x100, some, 1) == count);
    CHECK(memcmp(some, all, sizeof *some) == 0 && some[1].base == UINT64_C(0xeeeeeeeeeeeeeeee));
    vmie_coverage coverage;
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.read > 0 && coverage.complete == 1);

    FAILS(scan_pointer(NULL, BARE_CR3, lo, hi, from, to, BARE_WORLD, 2, 8, all, 8), -1, VMIE_E_ARGUMENT);
    FAILS(scan_pointer(m, BARE_CR3, hi, lo, from, to, BARE_WORLD, 2, 8, all, 8), -1, VMIE_E_ARGUMENT);
    FAILS(scan_pointer(m, BARE_CR3, lo, hi, to, from, BARE_WORLD, 2, 8, all, 8), -1, VMIE_E_ARGUMENT);
    FAILS(scan_pointer(m, BARE_CR3, lo, hi, from, to, BARE_WORLD, 0, 8, all, 8), -1, VMIE_E_ARGUMENT);
    FAILS(scan_pointer(m, BARE_CR3, lo, hi, from, to, BARE_WORLD, SCAN_PATH_DEPTH + 1, 8, all, 8), -1,
          VMIE_E_ARGUMENT);
    FAILS(scan_pointer(m, BARE_CR3, lo, hi, from, to, BARE_WORLD, 1, UINT64_MAX, all, 8), -1, VMIE_E_ARGUMENT);
    FAILS(scan_pointer(m, BARE_CR3, lo, hi, from, to, BARE_WORLD, 1, 8, all, -1), -1, VMIE_E_ARGUMENT);
    FAILS(scan_pointer(m, BARE_CR3, 0, 0xfff, from, to, 0x10, 1, 8, all, 8), -1, VMIE_E_UNREADABLE);
}

/* ---- Threads ---- */

struct shared {
    vmie_mem *m;
    const vmie_sig *sig;
};

static void *searcher(void *arg)
{
    const struct shared *shared = arg;
    for (int i = 0; i < 10; i++) {
        uint64_t va;
        vmie_coverage coverage;
        CHECK(gva_sig_scan(shared->m, BARE_CR3, BARE_TEXT, BARE_TEXT + BARE_TEXT_LEN - 1, 0, shared->sig, &va,
                           1) == 1);
        CHECK(va == BARE_SIGNATURE_VA);
        CHECK(vmie_last_coverage(&coverage) == 0 && coverage.read == BARE_TEXT_LEN);
    }
    return NULL;
}

static void threads(vmie_mem *m)
{
    vmie_sig *sig = sig_parse(BARE_SIGNATURE);
    CHECK(sig != NULL);
    struct shared shared = {m, sig};
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, searcher, &shared) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    /* One thread or many: the same. */
    for (int count = 0; count < 3; count++) {
        CHECK(vmie_set_threads(m, count) == 0);
        CHECK(gva_sig_scan(m, VMIE_PHYS, 0, UINT64_MAX, 0, sig, NULL, 0) == 0);
    }
    sig_free(sig);
}

/* ---- What the command says ---- */

static const char *const KINDS[] = {"", "call", "jmp", "jcc", "call-ptr", "jmp-ptr", "lea", "mem", "imm"};

static int write_words(const scan_window *window, void *user)
{
    (void)user;
    CHECK(window->va % 8 == 0 && window->owned % 8 == 0);
    for (size_t at = 0; at < window->owned; at += 8) {
        uint64_t word;
        memcpy(&word, window->bytes + at, sizeof word);
        printf("{\"va\":\"0x%" PRIx64 "\",\"value\":\"0x%" PRIx64 "\"}\n", window->va + at, word);
    }
    return 0;
}

static void agree(char **argv)
{
    vmie_mem *m = open_guest(argv[3], argv[4]);
    uintptr_t cr3 = (uintptr_t)number(argv[5]);
    uint64_t lo = number(argv[6]), hi = number(argv[7]);
    if (strcmp(argv[2], "sweep") == 0) {
        CHECK(gva_sweep(m, cr3, lo, hi, 0, 64, 8, write_words, NULL) == 0);
    } else if (strcmp(argv[2], "signature") == 0) {
        vmie_sig *sig = sig_parse(argv[8]);
        CHECK(sig != NULL);
        int count = gva_sig_scan(m, cr3, lo, hi, VMIE_PROT_X, sig, NULL, 0);
        uint64_t *list = room(count, sizeof *list);
        CHECK(gva_sig_scan(m, cr3, lo, hi, VMIE_PROT_X, sig, list, count) == count);
        for (int i = 0; i < count; i++)
            printf("{\"va\":\"0x%" PRIx64 "\"}\n", list[i]);
        free(list);
        sig_free(sig);
    } else if (strcmp(argv[2], "xref") == 0) {
        uint64_t target_lo = number(argv[8]), target_hi = number(argv[9]);
        int count = gva_code_xref(m, cr3, lo, hi, 0, 0, target_lo, target_hi, NULL, 0);
        code_xref *list = room(count, sizeof *list);
        CHECK(gva_code_xref(m, cr3, lo, hi, 0, 0, target_lo, target_hi, list, count) == count);
        for (int i = 0; i < count; i++)
            printf("{\"va\":\"0x%" PRIx64 "\",\"kind\":\"%s\",\"target\":\"0x%" PRIx64
                   "\",\"len\":%d,\"linear\":%s}\n",
                   list[i].va, KINDS[list[i].kind], list[i].target, list[i].len,
                   list[i].linear ? "true" : "false");
        free(list);
    } else if (strcmp(argv[2], "value") == 0) {
        gva_value low = {.i = strtoll(argv[8], NULL, 0)}, high = {.i = strtoll(argv[9], NULL, 0)};
        int count = gva_value_scan(m, cr3, lo, hi, 0, VALUE_I32, &low, &high, 1, NULL, 0);
        value_hit *list = room(count, sizeof *list);
        CHECK(gva_value_scan(m, cr3, lo, hi, 0, VALUE_I32, &low, &high, 1, list, count) == count);
        for (int i = 0; i < count; i++)
            printf("{\"va\":\"0x%" PRIx64 "\",\"value\":%" PRId64 "}\n", list[i].va, list[i].value.i);
        free(list);
    } else if (strcmp(argv[2], "paths") == 0) {
        uint64_t from = number(argv[8]), to = number(argv[9]), target = number(argv[10]);
        int count = scan_pointer(m, cr3, lo, hi, from, to, target, 2, 0x40, NULL, 0);
        scan_path *list = room(count, sizeof *list);
        CHECK(scan_pointer(m, cr3, lo, hi, from, to, target, 2, 0x40, list, count) == count);
        for (int i = 0; i < count; i++) {
            printf("{\"base\":\"0x%" PRIx64 "\",\"offsets\":[", list[i].base);
            for (uint32_t step = 0; step < list[i].depth; step++)
                printf("%s%" PRId64, step ? "," : "", list[i].offsets[step]);
            printf("]}\n");
        }
        free(list);
    } else {
        CHECK(!"a question that is known");
    }
    vmie_close(m);
}

int main(int argc, char **argv)
{
    if (argc > 7 && strcmp(argv[1], "agree") == 0) {
        agree(argv);
        return 0;
    }
    CHECK(argc == 5 && strcmp(argv[1], "check") == 0);
    vmie_mem *m = open_guest(argv[2], "-");
    windows(m);
    signatures(m);
    code(m);
    values(m);
    pointers(m);
    threads(m);
    vmie_close(m);
    return 0;
}
