/*
 * Shows where the CPUs of a guest were: the root of each one's address space, and the bytes at its instruction
 * pointer.
 *
 * Compile: cc -std=c11 -o cpus memmodel.c $(pkg-config --cflags --libs vmie)
 * Run: ./cpus demo.elf
 *
 * `vmie demo --keep DIR` makes demo.elf.
 */
#include <inttypes.h>
#include <memmodel.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOURCE\n", argv[0]);
        return 2;
    }
    vmie_mem *m = vmie_open(argv[1]);
    if (m == NULL) {
        fprintf(stderr, "%s\n", vmie_last_error_text());
        return 2;
    }
    vmie_cpu cpus[64];
    int count = vmie_cpus(m, cpus, 64);
    for (int i = 0; i < count && i < 64; i++) {
        uintptr_t cr3 = (uintptr_t)cpus[i].cr3;
        printf("CPU %" PRIu32 "  cr3 0x%" PRIx64 "  rip 0x%" PRIx64 "\n", cpus[i].index, cpus[i].cr3,
               cpus[i].rip);
        unsigned char code[16];
        size_t done;
        /* A read that fails says how far it came. */
        if (vmie_read(m, cr3, cpus[i].rip, code, sizeof code, &done) != 0)
            printf("  %s\n", vmie_last_error_text());
        printf(" ");
        for (size_t at = 0; at < done; at++)
            printf(" %02x", code[at]);
        printf("\n");

        vregion region;
        if (vmie_regions(m, cr3, cpus[i].rip, cpus[i].rip, &region, 1) == 1)
            printf("  %s%s%s\n", region.prot & VMIE_PROT_R ? "readable" : "",
                   region.prot & VMIE_PROT_W ? ", writable" : "",
                   region.prot & VMIE_PROT_X ? ", executable" : "");
    }
    vmie_close(m);
    return 0;
}
