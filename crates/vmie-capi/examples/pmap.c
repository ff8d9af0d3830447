/*
 * Lists the objects that hold an address, for one the instances of a class by its virtual table: each with a path of
 * pointers that leads to it from a range of fixed addresses, and the fields of the first one.
 *
 * Compile: cc -std=c11 -o instances pmap.c $(pkg-config --cflags --libs vmie)
 * Run: ./instances demo.elf 0x55814a203840 0x55814a205000 0x55814a205fff
 *
 * `vmie demo --keep DIR` makes demo.elf.
 */
#include <inttypes.h>
#include <pmap.h>
#include <stdio.h>
#include <stdlib.h>

static int first_path(void *user, const pmap_path *path)
{
    *(pmap_path *)user = *path;
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s SOURCE ADDRESS BASE BASE_LAST\n", argv[0]);
        return 2;
    }
    uint64_t vtable = strtoull(argv[2], NULL, 0);
    pmap_range base = {strtoull(argv[3], NULL, 0), strtoull(argv[4], NULL, 0)};
    vmie_mem *m = vmie_open(argv[1]);
    vmie_cpu cpu;
    if (m == NULL || vmie_cpus(m, &cpu, 1) < 1) {
        fprintf(stderr, "%s\n", m == NULL ? vmie_last_error_text() : "no CPU is known");
        vmie_close(m);
        return 2;
    }
    uintptr_t cr3 = (uintptr_t)cpu.cr3;
    pmap *map = pmap_build(m, cr3, NULL);
    if (map == NULL) {
        fprintf(stderr, "%s\n", vmie_last_error_text());
        vmie_close(m);
        return 2;
    }
    pmap_edge holders[8];
    int total = pmap_referrers(map, vtable, vtable, holders, 8);
    printf("%d hold 0x%" PRIx64 "\n", total, vtable);
    for (int i = 0; i < total && i < 8; i++) {
        printf("0x%" PRIx64, holders[i].at);
        pmap_search search = {0};
        search.target = holders[i].at;
        search.bases = &base;
        search.base_count = 1;
        search.max_offset = 0x100;
        search.depth = 4;
        pmap_path path;
        /* The shortest paths come first. */
        if (pmap_paths_each(map, &search, first_path, &path, NULL) > 0) {
            printf("  from 0x%" PRIx64, path.base);
            for (uint32_t k = 0; k < path.count; k++)
                printf(" +0x%" PRIx64, (uint64_t)path.offsets[k]);
        }
        printf("\n");
    }
    if (total > 0) {
        struct_field fields[64];
        int count = struct_dissect(m, cr3, holders[0].at, 64, fields, 64);
        for (int i = 0; i < count && i < 64; i++)
            printf("  +0x%02" PRIx64 "  %-12s  %s  %s\n", fields[i].offset, struct_kind_name(fields[i].kind),
                   fields[i].text, fields[i].detail);
    }

    /* That there are no others is worth saying only of what was looked at. */
    vmie_coverage coverage;
    if (pmap_referrers(map, vtable, vtable, NULL, 0) >= 0 && vmie_last_coverage(&coverage) == 0 &&
        !coverage.complete)
        printf("%" PRIu64 " bytes could not be looked at\n", coverage.absent + coverage.lost);
    pmap_free(map);
    vmie_close(m);
    return total < 0 ? 2 : 0;
}
