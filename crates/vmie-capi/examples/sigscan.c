/*
 * Finds signatures of a file, one a line, where the address space of a guest's first CPU may execute, in one pass.
 *
 * Compile: cc -std=c11 -o sigs sigscan.c $(pkg-config --cflags --libs vmie)
 * Run: printf '55 48 89 E5 [3] 5D C3\n48 8B 05 ?? ?? ?? ?? 48 85 C0\n' | ./sigs demo.elf
 *
 * `vmie demo --keep DIR` makes demo.elf.
 */
#include <inttypes.h>
#include <scan.h>
#include <stdio.h>
#include <string.h>

#define MOST 256

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, vmie_last_error_text());
    return 2;
}

int main(int argc, char **argv)
{
    static char lines[MOST][256];
    const char *texts[MOST];
    int count = 0;
    while (count < MOST && fgets(lines[count], sizeof lines[count], stdin) != NULL) {
        texts[count] = lines[count];
        count++;
    }
    int bad;
    struct sigset *set = sigset_compile(texts, texts, count, &bad);
    if (set == NULL)
        return fail(bad < 0 ? "signatures" : texts[bad]);

    vmie_mem *m = vmie_open(argc == 2 ? argv[1] : NULL);
    if (m == NULL)
        return fail("source");
    vmie_cpu cpu;
    if (vmie_cpus(m, &cpu, 1) < 1) {
        fprintf(stderr, "the source does not record its CPUs\n");
        return 2;
    }
    static sig_match found[MOST];
    int total = gva_sig_scan_multi(m, (uintptr_t)cpu.cr3, 0, UINT64_MAX, VMIE_PROT_X, set, found, MOST);
    if (total < 0)
        return fail("scan");
    printf("%d matches\n", total);
    for (int i = 0; i < total && i < 3; i++)
        printf("0x%" PRIx64 "  %s", found[i].va, sigset_name(set, (int)found[i].sig));

    /* No match is not "not there" when a part could not be looked at. */
    vmie_coverage coverage;
    if (vmie_last_coverage(&coverage) == 0 && !coverage.complete)
        printf("%" PRIu64 " bytes could not be looked at\n", coverage.absent + coverage.lost);
    vmie_close(m);
    sigset_free(set);
    return 0;
}
