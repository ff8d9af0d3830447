/*
 * Counts how often each byte occurs in memory that user mode may read, and finds the commonest.
 *
 * Compile: cc -std=c11 -o bytes scan.c $(pkg-config --cflags --libs vmie)
 * Run: ./bytes demo.elf
 *
 * `vmie demo --keep DIR` makes demo.elf.
 */
#include <inttypes.h>
#include <scan.h>
#include <stdio.h>

static int count(const scan_window *window, void *user)
{
    uint64_t *counts = user;
    for (size_t at = 0; at < window->owned; at++)
        counts[window->bytes[at]]++;
    return 0; /* go on */
}

int main(int argc, char **argv)
{
    vmie_mem *m = vmie_open(argc == 2 ? argv[1] : NULL);
    vmie_cpu cpu;
    uint64_t counts[256] = {0};
    if (m == NULL || vmie_cpus(m, &cpu, 1) < 1 ||
        gva_sweep(m, (uintptr_t)cpu.cr3, 0, UINT64_MAX, VMIE_PROT_USER, 0, 0, count, counts) < 0) {
        fprintf(stderr, "%s\n", vmie_last_error_text());
        return 2;
    }
    for (int rank = 0; rank < 3; rank++) {
        int most = 0;
        for (int byte = 1; byte < 256; byte++)
            if (counts[byte] > counts[most])
                most = byte;
        printf("%02x  %" PRIu64 "\n", (unsigned)most, counts[most]);
        counts[most] = 0;
    }
    vmie_coverage coverage;
    if (vmie_last_coverage(&coverage) == 0)
        printf("of %" PRIu64 " bytes %" PRIu64 " were looked at\n", coverage.mapped, coverage.read);
    vmie_close(m);
    return 0;
}
