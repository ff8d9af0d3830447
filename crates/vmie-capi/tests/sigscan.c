/* sigscan.h: rightly used, wrongly used; found as the command finds them. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <scan.h>
#include <sigscan.h>

static void one(void)
{
    vmie_sig *sig = sig_parse("48 8b ?? [2-4] (E8|E9 90)");
    CHECK(sig != NULL);
    CHECK(sig_min_len(sig) == 6 && sig_max_len(sig) == 9);
    vmie_sig *again = sig_parse(sig_text(sig));
    CHECK(again != NULL && strcmp(sig_text(again), sig_text(sig)) == 0);
    sig_free(again);
    sig_free(sig);
    sig_free(NULL);

    FAILS(sig_parse(NULL), NULL, VMIE_E_ARGUMENT);
    CHECK(vmie_last_error_column() == 0);
    FAILS(sig_parse("48 8Z"), NULL, VMIE_E_SYNTAX);
    CHECK(vmie_last_error_column() == 4); /* of the half byte */
    FAILS(sig_parse(""), NULL, VMIE_E_SYNTAX);
    FAILS(sig_parse("??"), NULL, VMIE_E_SYNTAX);
    FAILS(sig_parse("48 [99999] 48"), NULL, VMIE_E_SYNTAX);
    FAILS(sig_parse("\xff\xfe"), NULL, VMIE_E_ARGUMENT);
    FAILS(sig_text(NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(sig_min_len(NULL), 0, VMIE_E_ARGUMENT);
    FAILS(sig_max_len(NULL), 0, VMIE_E_ARGUMENT);

    /* Deeper than anything is nested by people. */
    static char deep[100001];
    memset(deep, '(', sizeof deep - 1);
    FAILS(sig_parse(deep), NULL, VMIE_E_SYNTAX);
}

static void many(void)
{
    const char *texts[] = {"E8 ?? ?? ?? ??", "48 8B 05", "4?"};
    const char *names[] = {"call", NULL, "r\xc3\xa9x"};
    int bad = 99;
    struct sigset *set = sigset_compile(texts, names, 3, &bad);
    CHECK(set != NULL && bad == -1);
    CHECK(sigset_count(set) == 3);
    CHECK(strcmp(sigset_name(set, 0), "call") == 0);
    CHECK(strcmp(sigset_name(set, 1), "") == 0);
    CHECK(strcmp(sigset_name(set, 2), "r\xc3\xa9x") == 0);
    FAILS(sigset_name(set, 3), NULL, VMIE_E_ARGUMENT);
    FAILS(sigset_name(set, -1), NULL, VMIE_E_ARGUMENT);
    sigset_free(set);
    sigset_free(NULL);

    set = sigset_compile(texts, NULL, 3, NULL);
    CHECK(set != NULL && strcmp(sigset_name(set, 0), "") == 0);
    sigset_free(set);

    const char *wrong[] = {"E8", "4G", NULL};
    FAILS(sigset_compile(wrong, NULL, 2, &bad), NULL, VMIE_E_SYNTAX);
    CHECK(bad == 1 && vmie_last_error_column() == 1);
    FAILS(sigset_compile(wrong + 2, NULL, 1, &bad), NULL, VMIE_E_ARGUMENT);
    CHECK(bad == 0);
    FAILS(sigset_compile(texts, NULL, 0, &bad), NULL, VMIE_E_ARGUMENT);
    CHECK(bad == -1);
    FAILS(sigset_compile(texts, NULL, -1, NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(sigset_compile(NULL, NULL, 1, NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(sigset_count(NULL), -1, VMIE_E_ARGUMENT);
    FAILS(sigset_name(NULL, 0), NULL, VMIE_E_ARGUMENT);
}

/* Sets are found as the command finds them: the rows of `vmie scan`. */
static void agree(int argc, char **argv)
{
    vmie_mem *m = open_guest(argv[3], argv[4]);
    uintptr_t cr3 = (uintptr_t)number(argv[5]);
    uint64_t lo = number(argv[6]), hi = number(argv[7]);
    CHECK(strcmp(argv[2], "scan") == 0 && argc > 8);
    struct sigset *set = sigset_compile((const char *const *)&argv[8], NULL, argc - 8, NULL);
    CHECK(set != NULL);
    int count = gva_sig_scan_multi(m, cr3, lo, hi, VMIE_PROT_X, set, NULL, 0);
    CHECK(count >= 0);
    sig_match *list = room(count, sizeof *list);
    CHECK(gva_sig_scan_multi(m, cr3, lo, hi, VMIE_PROT_X, set, list, count) == count);
    for (int i = 0; i < count; i++)
        printf("{\"va\":\"0x%" PRIx64 "\",\"sig\":%" PRIu32 "}\n", list[i].va, list[i].sig);
    free(list);
    sigset_free(set);
    vmie_close(m);
}

int main(int argc, char **argv)
{
    if (argc > 7 && strcmp(argv[1], "agree") == 0) {
        agree(argc, argv);
        return 0;
    }
    CHECK(argc == 5 && strcmp(argv[1], "check") == 0);
    one();
    many();
    return 0;
}
