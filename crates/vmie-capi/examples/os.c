/*
 * Lists the processes of a guest, and for each with memory of its own how much of its user half is mapped.
 *
 * Compile: cc -std=c11 -o processes os.c $(pkg-config --cflags --libs vmie)
 * Run: ./processes demo.elf
 *
 * `vmie demo --keep DIR` makes demo.elf.
 */
#include <inttypes.h>
#include <os.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that are mapped in the lower half of an address space. */
static uint64_t mapped(vmie_mem *m, uint64_t cr3)
{
    vmie_coverage coverage;
    if (vmie_regions(m, (uintptr_t)cr3, 0, (UINT64_C(1) << 47) - 1, NULL, 0) < 0 ||
        vmie_last_coverage(&coverage) != 0)
        return 0;
    return coverage.mapped;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOURCE\n", argv[0]);
        return 2;
    }
    vmie_mem *m = vmie_open(argv[1]);
    vmie_os *os = m == NULL ? NULL : vmie_os_find(m);
    if (os == NULL) {
        /* What each step of the search has seen follows on lines of its own. */
        const char *text = vmie_last_error_text();
        printf("%.*s\n", (int)strcspn(text, "\n:"), text);
        vmie_close(m);
        return 2;
    }
    printf("%s: %s\n", vmie_os_kind(os), vmie_os_version(os));
    int count = vmie_processes(os, NULL, 0);
    vmie_process *list = count > 0 ? calloc((size_t)count, sizeof *list) : NULL;
    if (list != NULL) {
        /* Of a running guest there may be more or fewer by now. */
        int now = vmie_processes(os, list, count);
        for (int i = 0; i < now && i < count; i++) {
            printf("%7" PRIu32 "  %-16s", list[i].pid, list[i].name);
            if (list[i].cr3 != 0)
                printf("  cr3 0x%" PRIx64 "  %" PRIu64 " KiB", list[i].cr3, mapped(m, list[i].user_cr3) / 1024);
            printf("\n");
        }
    }
    for (int i = 0; vmie_finding(i) != NULL; i++)
        printf("does not add up: %s\n", vmie_finding(i));
    free(list);
    vmie_os_free(os);
    vmie_close(m);
    return 0;
}
