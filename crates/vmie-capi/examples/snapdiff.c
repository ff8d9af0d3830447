/*
 * Shows what changes in the first CPU's address space while Enter is awaited: of a running guest, whatever it
 * does meanwhile; of a saved image, nothing.
 *
 * Compile: cc -std=c11 -o changes snapdiff.c $(pkg-config --cflags --libs vmie)
 * Run: echo | ./changes demo.elf
 *
 * `vmie demo --keep DIR` makes demo.elf; `./changes qemu:SOCKET` looks at a running guest.
 */
#include <inttypes.h>
#include <snapdiff.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOURCE\n", argv[0]);
        return 2;
    }
    vmie_mem *m = vmie_open(argv[1]);
    vmie_cpu cpu;
    if (m == NULL || vmie_cpus(m, &cpu, 1) < 1) {
        fprintf(stderr, "%s\n", m == NULL ? vmie_last_error_text() : "no CPU is known");
        vmie_close(m);
        return 2;
    }
    uintptr_t cr3 = (uintptr_t)cpu.cr3;
    /* All of it that can be written. */
    snapshot *then = snap_take(m, cr3, 0, UINT64_MAX, VMIE_PROT_W);
    if (then == NULL) {
        fprintf(stderr, "%s\n", vmie_last_error_text());
        vmie_close(m);
        return 2;
    }
    printf("press Enter\n");
    (void)getchar();

    vregion changed[256];
    int total = snap_diff(then, m, cr3, changed, 256);
    if (total < 0)
        fprintf(stderr, "%s\n", vmie_last_error_text());
    for (int i = 0; i < total && i < 256; i++)
        printf("0x%016" PRIx64 "  %" PRIu64 " bytes%s\n", changed[i].va, changed[i].len,
               changed[i].prot == 0 ? "  not mapped any more" : "");
    printf("%d runs\n", total);

    /* That nothing changed is worth saying only of what was looked at. */
    vmie_coverage coverage;
    if (vmie_last_coverage(&coverage) == 0 && !coverage.complete)
        printf("%" PRIu64 " bytes could not be compared\n", coverage.absent + coverage.lost);
    snap_free(then);
    vmie_close(m);
    return total < 0 ? 2 : 0;
}
