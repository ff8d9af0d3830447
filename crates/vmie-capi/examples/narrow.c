/*
 * Finds out where a number is that changes, as game trainers do: says each value it is known to have, and Enter in
 * between when the guest has gone on. Of a running guest few places are left soon; of a saved image none goes.
 *
 * Compile: cc -std=c11 -o trainer narrow.c $(pkg-config --cflags --libs vmie)
 * Run: printf '1\n1\n' | ./trainer demo.elf
 *
 * `vmie demo --keep DIR` makes demo.elf; `./trainer qemu:SOCKET` looks at a running guest.
 */
#include <inttypes.h>
#include <narrow.h>
#include <stdio.h>

#define FILE_NAME "candidates.vmie"

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOURCE < NUMBERS\n", argv[0]);
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
    gva_value value = {.u = 0};
    narrow_hit hits[4];
    int total = 0;
    for (int round = 0; total >= 0 && scanf("%" SCNu64, &value.u) == 1; round++) {
        if (round == 0) {
            uint64_t count = 0;
            /* Numbers of 32 bits in memory that can be written. */
            total = gva_value_save(m, cr3, 0, UINT64_MAX, VMIE_PROT_W, VALUE_U32, &value, NULL, 0, FILE_NAME, &count);
            if (total == 0)
                printf("%" PRIu64 " places have %" PRIu64 "\n", count, value.u);
            continue;
        }
        total = gva_value_narrow(m, cr3, FILE_NAME, NARROW_EQUAL, &value, NULL, FILE_NAME, hits, 4);
        if (total >= 0)
            printf("%d of them have %" PRIu64 " now\n", total, value.u);
        for (int i = 0; i < total && i < 4; i++)
            printf("0x%016" PRIx64 "  %" PRIu64 ", was %" PRIu64 "\n", hits[i].va, hits[i].value.u, hits[i].old.u);
    }
    if (total < 0)
        fprintf(stderr, "%s\n", vmie_last_error_text());
    vmie_close(m);
    remove(FILE_NAME);
    return total < 0 ? 2 : 0;
}
