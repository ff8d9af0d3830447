/* pmap.h: rightly used, wrongly used, and what it finds in a guest. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <limits.h>
#include <pmap.h>
#include <pthread.h>

_Static_assert(sizeof(pmap_options) == 56, "as the library has it");
_Static_assert(sizeof(pmap_edge) == 16, "as the library has it");
_Static_assert(sizeof(pmap_path) == 272, "as documented");
_Static_assert(sizeof(pmap_search) == 64, "as the library has it");
_Static_assert(sizeof(struct_field) == 824, "as documented");

static int none(void *user, const pmap_path *path)
{
    (void)user;
    (void)path;
    CHECK(!"called");
    return 0;
}

/* From all of the data to the world. */
static const pmap_range DATA = {BARE_DATA, BARE_DATA + BARE_DATA_LEN - 1};

static pmap_search to_world(void)
{
    pmap_search search = {0};
    search.target = BARE_WORLD;
    search.bases = &DATA;
    search.base_count = 1;
    search.max_offset = 0x100;
    search.depth = 2;
    return search;
}

static void nulls(vmie_mem *m, pmap *p)
{
    pmap_edge edge;
    pmap_path path;
    struct_field field;
    pmap_options options;
    pmap_search search = to_world();

    FAILS(pmap_build(NULL, BARE_CR3, NULL), NULL, VMIE_E_ARGUMENT);
    pmap_free(NULL);
    CHECK(vmie_last_error() == VMIE_OK);
    FAILS(pmap_count(NULL), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_get_options(NULL, &options), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_get_options(p, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_referrers(NULL, 0, 1, &edge, 1), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_pointees(NULL, 0, 1, &edge, 1), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_save(NULL, "file"), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_save(p, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_open(NULL, BARE_CR3, "file"), NULL, VMIE_E_ARGUMENT);
    FAILS(pmap_open(m, BARE_CR3, NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(pmap_paths(NULL, &search, &path, 1, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_paths(p, NULL, &path, 1, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_paths_each(NULL, &search, none, NULL, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_paths_each(p, NULL, none, NULL, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_paths_each(p, &search, NULL, NULL, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(struct_dissect(NULL, BARE_CR3, BARE_WORLD, 8, &field, 1), -1, VMIE_E_ARGUMENT);
    FAILS(struct_dissect_width(NULL, BARE_CR3, BARE_WORLD, 8, 8, &field, 1), -1, VMIE_E_ARGUMENT);
}

static void refused(vmie_mem *m, pmap_options options)
{
    FAILS(pmap_build(m, BARE_CR3, &options), NULL, VMIE_E_ARGUMENT);
    CHECK(vmie_last_coverage(&(vmie_coverage){0}) == -1);
}

static void astray(const pmap *p, pmap_search search)
{
    FAILS(pmap_paths(p, &search, NULL, 0, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_paths_each(p, &search, none, NULL, NULL), -1, VMIE_E_ARGUMENT);
}

static void senseless(vmie_mem *m, pmap *p)
{
    pmap_edge edge;
    pmap_path path;
    struct_field field;

    refused(m, (pmap_options){.range = {2, 1}});
    refused(m, (pmap_options){.range = {UINT64_MAX, 0}});
    refused(m, (pmap_options){.from = {2, 1}});
    refused(m, (pmap_options){.range = {0x1000, 0x1fff}, .from = {0x1000, 0x2000}});
    refused(m, (pmap_options){.prot_all = 16});
    refused(m, (pmap_options){.width = 5});
    refused(m, (pmap_options){.width = UINT32_MAX});
    refused(m, (pmap_options){.align = 3});
    refused(m, (pmap_options){.align = 16});
    refused(m, (pmap_options){.width = 4, .align = 8});
    refused(m, (pmap_options){.reserved = 1});
    pmap_options few = {.max_edges = 1};
    FAILS(pmap_build(m, BARE_CR3, &few), NULL, VMIE_E_LIMIT);
    /* Nothing is mapped there. */
    pmap_options nowhere = {.range = {0x1000, 0x1fff}};
    FAILS(pmap_build(m, BARE_CR3, &nowhere), NULL, VMIE_E_UNREADABLE);
    FAILS(pmap_build(m, 0x7fffff000, NULL), NULL, VMIE_E_PAGING);

    FAILS(pmap_referrers(p, 2, 1, &edge, 1), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_referrers(p, 0, 1, &edge, -1), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_referrers(p, 0, 1, NULL, -1), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_pointees(p, 2, 1, &edge, 1), -1, VMIE_E_ARGUMENT);
    FAILS(pmap_pointees(p, 0, 1, &edge, -1), -1, VMIE_E_ARGUMENT);

    pmap_search search = to_world();
    FAILS(pmap_paths(p, &search, &path, -1, NULL), -1, VMIE_E_ARGUMENT);
    const pmap_range wrong = {2, 1};
    search.bases = &wrong;
    astray(p, search);
    search.bases = NULL;
    astray(p, search);
    search.base_count = 0;
    astray(p, search);
    search.base_count = -1;
    astray(p, search);
    search = to_world(), search.value_count = 1;
    astray(p, search);
    search = to_world(), search.value_count = INT_MIN;
    astray(p, search);
    const int depths[] = {0, -1, PMAP_MAX_DEPTH + 1, INT_MAX};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        search = to_world(), search.depth = depths[i];
        astray(p, search);
    }
    search = to_world(), search.max_offset = UINT64_MAX;
    astray(p, search);
    search = to_world(), search.back = (uint64_t)INT64_MAX + 1;
    astray(p, search);
    search = to_world(), search.flags = 2;
    astray(p, search);

    FAILS(struct_dissect(m, BARE_CR3, BARE_WORLD, 0, &field, 1), -1, VMIE_E_ARGUMENT);
    FAILS(struct_dissect(m, BARE_CR3, BARE_WORLD, 8, &field, -1), -1, VMIE_E_ARGUMENT);
    FAILS(struct_dissect(m, BARE_CR3, UINT64_MAX, 2, &field, 1), -1, VMIE_E_ARGUMENT);
    FAILS(struct_dissect(m, BARE_CR3, 8, UINT64_MAX, &field, 1), -1, VMIE_E_ARGUMENT);
    FAILS(struct_dissect(m, BARE_CR3, BARE_WORLD, 65537, &field, 1), -1, VMIE_E_LIMIT);
    FAILS(struct_dissect_width(m, BARE_CR3, BARE_WORLD, 8, 0, &field, 1), -1, VMIE_E_ARGUMENT);
    FAILS(struct_dissect_width(m, BARE_CR3, BARE_WORLD, 8, 5, &field, 1), -1, VMIE_E_ARGUMENT);
    FAILS(struct_dissect(m, BARE_CR3, BARE_ABSENT_PAGE, 64, &field, 1), -1, VMIE_E_UNREADABLE);
    FAILS(struct_dissect(m, BARE_CR3, 0x1000, 64, &field, 1), -1, VMIE_E_UNREADABLE);
    FAILS(struct_kind_name(0), NULL, VMIE_E_ARGUMENT);
    FAILS(struct_kind_name(21), NULL, VMIE_E_ARGUMENT);
    FAILS(struct_kind_name(UINT32_MAX), NULL, VMIE_E_ARGUMENT);
}

/* ---- A reference implementation: every word of the space, asked one by one ---- */

static vregion *regions;
static int region_count;

static int is_mapped(uint64_t va)
{
    for (int i = 0; i < region_count; i++)
        if (va >= regions[i].va && va - regions[i].va < regions[i].len)
            return 1;
    return 0;
}

/* The pointers that stand in one range and lead into the other, by ascending `at`. */
static int naive(vmie_mem *m, pmap_range from, pmap_range to, pmap_edge *out, int max)
{
    int total = 0;
    for (int i = 0; i < region_count; i++)
        for (uint64_t page = regions[i].va; page - regions[i].va < regions[i].len; page += 4096) {
            uint64_t words[512];
            if (page > from.hi || page + 4095 < from.lo)
                continue;
            if (vmie_read(m, BARE_CR3, page, words, sizeof words, NULL) != 0)
                continue;
            for (uint64_t w = 0; w < 512; w++) {
                uint64_t at = page + 8 * w;
                if (at < from.lo || at > from.hi || words[w] < to.lo || words[w] > to.hi)
                    continue;
                if (is_mapped(words[w])) {
                    if (total < max)
                        out[total] = (pmap_edge){at, words[w]};
                    total++;
                }
            }
        }
    return total;
}

static int by_value(const void *left, const void *right)
{
    const pmap_edge *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static int by_place(const void *left, const void *right)
{
    const pmap_edge *a = left, *b = right;
    return a->at < b->at ? -1 : a->at > b->at;
}

enum { MOST = 200000 };
static pmap_edge found[MOST], expected[MOST];
static const pmap_range EVERYWHERE = {0, UINT64_MAX};

static void edges(vmie_mem *m, const pmap *p)
{
    const pmap_range asked[] = {
        {BARE_VTABLE_SHIP, BARE_VTABLE_SHIP},
        {BARE_WORLD, BARE_WORLD + 0x3f},
        {BARE_TEXT, BARE_TEXT + BARE_TEXT_LEN - 1},
        {BARE_HEAP, BARE_HEAP + BARE_HEAP_LEN - 1},
        {0x1000, 0x1fff},
    };
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        int total = naive(m, EVERYWHERE, asked[i], expected, MOST);
        CHECK(total < MOST && (total > 0 || i == 4));
        qsort(expected, (size_t)total, sizeof *expected, by_value);
        CHECK(pmap_referrers(p, asked[i].lo, asked[i].hi, NULL, 0) == total);
        CHECK(pmap_referrers(p, asked[i].lo, asked[i].hi, NULL, 7) == total);
        memset(found, 0xee, sizeof found);
        CHECK(pmap_referrers(p, asked[i].lo, asked[i].hi, found, MOST) == total);
        CHECK(memcmp(found, expected, (size_t)total * sizeof *found) == 0);
        CHECK(found[total].at == UINT64_C(0xeeeeeeeeeeeeeeee));
        if (total > 1) {
            memset(found, 0xee, sizeof found);
            CHECK(pmap_referrers(p, asked[i].lo, asked[i].hi, found, 1) == total);
            CHECK(found[0].at == expected[0].at && found[1].at == UINT64_C(0xeeeeeeeeeeeeeeee));
        }

        total = naive(m, asked[i], EVERYWHERE, expected, MOST);
        CHECK(total < MOST);
        CHECK(pmap_pointees(p, asked[i].lo, asked[i].hi, NULL, 0) == total);
        CHECK(pmap_pointees(p, asked[i].lo, asked[i].hi, found, MOST) == total);
        CHECK(memcmp(found, expected, (size_t)total * sizeof *found) == 0);
    }
    /* A page of this space is not in the image, and every answer says so. */
    vmie_coverage coverage;
    CHECK(vmie_last_coverage(&coverage) == 0);
    CHECK(coverage.complete == 0 && coverage.absent == 4096 && coverage.stopped == 0);
    CHECK(pmap_referrers(p, 0, UINT64_MAX, NULL, 0) == pmap_count(p));
    CHECK(pmap_pointees(p, 0, UINT64_MAX, NULL, 0) == pmap_count(p));
}

/* A part of the space, other words, and what a map says about itself. */
static void options(vmie_mem *m)
{
    pmap_options part = {.range = {BARE_RODATA, BARE_HEAP + BARE_HEAP_LEN - 1},
                         .from = {BARE_HEAP, BARE_HEAP + BARE_HEAP_LEN - 1},
                         .prot_all = VMIE_PROT_W};
    pmap_options said, whole = {0};
    pmap *p = pmap_build(m, BARE_CR3, &part);
    CHECK(p != NULL);
    int total = naive(m, part.from, part.range, expected, MOST);
    CHECK(total > 0 && total < MOST);
    CHECK(pmap_pointees(p, 0, UINT64_MAX, found, MOST) == total && pmap_count(p) == total);
    CHECK(memcmp(found, expected, (size_t)total * sizeof *found) == 0);
    CHECK(pmap_get_options(p, &said) == 0);
    CHECK(said.range.lo == part.range.lo && said.range.hi == part.range.hi);
    CHECK(said.from.lo == part.from.lo && said.from.hi == part.from.hi);
    CHECK(said.prot_all == VMIE_PROT_W && said.width == 8 && said.align == 8 && said.max_edges == 0);
    pmap_free(p);

    p = pmap_build(m, BARE_CR3, &whole);
    CHECK(p != NULL && pmap_get_options(p, &said) == 0);
    CHECK(said.range.lo == 0 && said.range.hi == UINT64_MAX && said.from.hi == UINT64_MAX);
    int64_t aligned = pmap_count(p);
    pmap_free(p);
    part = (pmap_options){.range = part.from, .align = 1};
    p = pmap_build(m, BARE_CR3, &part);
    CHECK(p != NULL && pmap_count(p) > 0 && pmap_count(p) < aligned);
    CHECK(pmap_get_options(p, &said) == 0 && said.align == 1 && said.width == 8);
    pmap_free(p);
    /* Physical memory: its words of four bytes that are addresses of it. */
    part = (pmap_options){.width = 4, .range = {0, 0xfffff}};
    p = pmap_build(m, VMIE_PHYS, &part);
    CHECK(p != NULL && pmap_get_options(p, &said) == 0 && said.width == 4 && said.align == 4);
    pmap_free(p);
}

/* Follows a path, as its kind says. */
static uint64_t follow(vmie_mem *m, const pmap_path *path)
{
    uint64_t at = path->base;
    if (path->kind == PMAP_BASE_PLACE)
        CHECK(vmie_read(m, BARE_CR3, at, &at, 8, NULL) == 0);
    for (uint32_t i = 0; i < path->count; i++) {
        at += (uint64_t)path->offsets[i];
        if (i + 1 < path->count)
            CHECK(vmie_read(m, BARE_CR3, at, &at, 8, NULL) == 0);
    }
    return at;
}

typedef struct collected {
    pmap_path *paths;
    int count, stop_at;
} collected;

static int collect(void *user, const pmap_path *path)
{
    collected *to = user;
    to->paths[to->count++] = *path;
    return to->count == to->stop_at;
}

static void paths(vmie_mem *m, const pmap *p)
{
    pmap_search search = to_world();
    search.depth = 3;
    int reached = -1;
    int total = pmap_paths(p, &search, NULL, 0, &reached);
    CHECK(total > 0 && reached == 3);
    pmap_path *all = room(total, sizeof *all), *each = room(total, sizeof *each);
    CHECK(pmap_paths(p, &search, all, total, NULL) == total);
    for (int i = 0; i < total; i++) {
        const pmap_path *path = &all[i];
        CHECK(path->kind == PMAP_BASE_PLACE && path->count >= 1 && path->count <= 3);
        CHECK(path->base >= DATA.lo && path->base <= DATA.hi);
        CHECK(follow(m, path) == BARE_WORLD);
        CHECK(i == 0 || path[-1].count < path->count ||
              (path[-1].count == path->count && path[-1].base <= path->base));
        for (uint32_t k = path->count; k < PMAP_MAX_OFFSETS; k++)
            CHECK(path->offsets[k] == 0);
    }
    CHECK(all[0].base == BARE_ROOT_POINTER || all[0].count == 1);

    /* Those that follow one pointer, found naively. */
    search.depth = 1;
    const pmap_range near = {BARE_WORLD - search.max_offset, BARE_WORLD};
    int one = naive(m, DATA, near, expected, MOST);
    CHECK(one > 0 && pmap_paths(p, &search, NULL, 0, NULL) == one);
    for (int i = 0; i < one; i++)
        CHECK(all[i].base == expected[i].at && all[i].count == 1);

    /* The same, one by one; stopped; and not more than there is room for. */
    search.depth = 3;
    collected to = {each, 0, 0};
    CHECK(pmap_paths_each(p, &search, collect, &to, &reached) == total && to.count == total);
    CHECK(memcmp(all, each, (size_t)total * sizeof *all) == 0);
    vmie_coverage coverage;
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.stopped == 0 && coverage.complete == 0);
    to = (collected){each, 0, 1};
    CHECK(pmap_paths_each(p, &search, collect, &to, NULL) == 1 && to.count == 1);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.stopped == 1);
    pmap_path two[2];
    memset(two, 0xee, sizeof two);
    CHECK(pmap_paths(p, &search, two, 1, NULL) == total);
    CHECK(memcmp(&two[0], &all[0], sizeof *two) == 0 && two[1].count == 0xeeeeeeee);

    /* A register's value: the deepest path has the most offsets. */
    const uint64_t value = BARE_ROOT_POINTER - 8;
    search.bases = NULL, search.base_count = 0;
    search.values = &value, search.value_count = 1;
    search.depth = 1, search.max_offset = 8;
    CHECK(pmap_paths(p, &search, two, 2, NULL) == 1);
    CHECK(two[0].kind == PMAP_BASE_VALUE && two[0].base == value && two[0].count == 2);
    CHECK(two[0].offsets[0] == 8 && two[0].offsets[1] == 0 && follow(m, &two[0]) == BARE_WORLD);
    /* The other way round, with negative offsets; and all the depth that there is. */
    const uint64_t behind = BARE_ROOT_POINTER + 8;
    search.values = &behind, search.max_offset = 0, search.back = 8;
    CHECK(pmap_paths(p, &search, two, 2, NULL) >= 1 && two[0].offsets[0] == -8);
    search.depth = PMAP_MAX_DEPTH, search.flags = PMAP_NO_LOOPS;
    CHECK(pmap_paths(p, &search, two, 2, &reached) >= 1 && reached == PMAP_MAX_DEPTH);

    /* Nothing leads there; and nobody could look far enough to say so. */
    search = to_world();
    search.target = 0x1000, search.max_offset = 0;
    CHECK(pmap_paths(p, &search, NULL, 0, &reached) == 0 && reached == 2);
    search = to_world();
    search.target = BARE_TEXT + BARE_TEXT_LEN - 1, search.max_offset = BARE_TEXT_LEN, search.max_places = 1;
    search.bases = &EVERYWHERE;
    FAILS(pmap_paths(p, &search, NULL, 0, &reached), -1, VMIE_E_LIMIT);
    CHECK(reached == 0);
    free(all);
    free(each);
}

static void objects(vmie_mem *m)
{
    enum { LEN = 0x80 };
    struct_field fields[LEN], some[2];
    int total = struct_dissect(m, BARE_CR3, BARE_WORLD, LEN, NULL, 0);
    CHECK(total > 1 && total <= LEN);
    CHECK(struct_dissect(m, BARE_CR3, BARE_WORLD, LEN, fields, LEN) == total);
    memset(some, 0xee, sizeof some);
    CHECK(struct_dissect(m, BARE_CR3, BARE_WORLD, LEN, some, 1) == total);
    CHECK(memcmp(some, fields, sizeof *some) == 0 && some[1].len == UINT64_C(0xeeeeeeeeeeeeeeee));
    uint64_t end = 0;
    for (int i = 0; i < total; i++) {
        CHECK(fields[i].offset == end && fields[i].len > 0 && fields[i].confidence <= 100);
        end += fields[i].len;
        CHECK(struct_kind_name(fields[i].kind) != NULL && fields[i].cut == 0);
        CHECK(memchr(fields[i].text, 0, STRUCT_TEXT_SIZE) && memchr(fields[i].detail, 0, STRUCT_TEXT_SIZE));
        CHECK(memchr(fields[i].evidence, 0, STRUCT_TEXT_SIZE));
    }
    CHECK(end == LEN);
    CHECK(fields[0].kind == STRUCT_VTABLE && fields[0].value == STRUCT_VALUE_ADDRESS);
    CHECK(fields[0].number == BARE_VTABLE_WORLD);
    CHECK(strcmp(struct_kind_name(STRUCT_VTABLE), "vtable") == 0);
    vmie_coverage coverage;
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.read == LEN && coverage.complete == 1);
    CHECK(struct_dissect_width(m, BARE_CR3, BARE_WORLD, LEN, 8, fields, LEN) == total);
    CHECK(struct_dissect_width(m, BARE_CR3, BARE_WORLD, LEN, 4, fields, LEN) > 0);
    CHECK(fields[0].kind != STRUCT_VTABLE);
    CHECK(struct_dissect(m, BARE_CR3, BARE_WORLD, 65536, NULL, 0) > 0);

    /* Half of it is not there. */
    total = struct_dissect(m, BARE_CR3, BARE_ABSENT_PAGE - 16, 32, fields, LEN);
    CHECK(total > 1 && fields[total - 1].kind == STRUCT_UNREADABLE);
    CHECK(fields[total - 1].value == STRUCT_VALUE_NONE && strlen(fields[total - 1].text) > 0);
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.read == 16 && coverage.absent == 16);
}

static void put(const char *path, const char *bytes, size_t len)
{
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL && fwrite(bytes, 1, len, out) == len && fclose(out) == 0);
}

static void files(vmie_mem *m, const pmap *p, const char *dir)
{
    char path[4096], other[4096];
    snprintf(path, sizeof path, "%s/map", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    CHECK(pmap_save(p, path) == 0);
    pmap *again = pmap_open(m, BARE_CR3, path);
    CHECK(again != NULL && pmap_count(again) == pmap_count(p));
    vmie_coverage coverage;
    CHECK(vmie_last_coverage(&coverage) == 0 && coverage.absent == 4096);
    edges(m, again);
    pmap_free(again);

    FAILS(pmap_save(p, "/nothing/here"), -1, VMIE_E_IO);
    FAILS(pmap_save(p, dir), -1, VMIE_E_IO);
    FAILS(pmap_open(m, BARE_CR3, "/nothing/here"), NULL, VMIE_E_OPEN);
    FAILS(pmap_open(m, BARE_CR3, dir), NULL, VMIE_E_OPEN);
    FAILS(pmap_open(m, 0x7fffff000, path), NULL, VMIE_E_PAGING);
    /* Of another memory. */
    FAILS(pmap_open(m, VMIE_PHYS, path), NULL, VMIE_E_OPEN);
    CHECK(strstr(vmie_last_error_text(), "another memory") != NULL);

    /* A part of the space, with what is known about it. */
    pmap_options part = {.range = {BARE_DATA, BARE_HEAP + BARE_HEAP_LEN - 1}, .prot_all = VMIE_PROT_W}, said;
    pmap *small = pmap_build(m, BARE_CR3, &part);
    CHECK(small != NULL && pmap_save(small, other) == 0);
    again = pmap_open(m, BARE_CR3, other);
    CHECK(again != NULL && pmap_get_options(again, &said) == 0 && pmap_count(again) == pmap_count(small));
    CHECK(said.range.lo == part.range.lo && said.from.hi == part.range.hi && said.prot_all == VMIE_PROT_W);
    pmap_free(again);
    /* A map may be replaced while it is open, and freed in any order. */
    CHECK(pmap_save(small, path) == 0);
    pmap_free(small);

    /* Cut, and damaged. */
    static char bytes[1 << 20];
    FILE *in = fopen(other, "rb");
    CHECK(in != NULL);
    size_t len = fread(bytes, 1, sizeof bytes, in);
    CHECK(len > 512 && len < sizeof bytes);
    fclose(in);
    const size_t cuts[] = {0, 1, 8, 100, 512, len - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        put(other, bytes, cuts[i]);
        FAILS(pmap_open(m, BARE_CR3, other), NULL, VMIE_E_OPEN);
    }
    for (size_t at = 0; at < len; at += len / 16) {
        bytes[at] ^= 0x40;
        put(other, bytes, len);
        FAILS(pmap_open(m, BARE_CR3, other), NULL, VMIE_E_OPEN);
        bytes[at] ^= 0x40;
    }
    put(other, "not a map", 9);
    FAILS(pmap_open(m, BARE_CR3, other), NULL, VMIE_E_OPEN);
}

/* Many threads ask one map. */
static void *asker(void *map)
{
    for (int i = 0; i < 30; i++) {
        pmap_edge edge;
        pmap_search search = to_world();
        CHECK(pmap_referrers(map, BARE_WORLD, BARE_WORLD, &edge, 1) >= 1 && edge.value == BARE_WORLD);
        CHECK(pmap_pointees(map, BARE_ROOT_POINTER, BARE_ROOT_POINTER, &edge, 1) == 1);
        CHECK(edge.value == BARE_WORLD && vmie_last_error() == VMIE_OK);
        CHECK(pmap_paths(map, &search, NULL, 0, NULL) >= 1);
        FAILS(pmap_referrers(map, 1, 0, NULL, 0), -1, VMIE_E_ARGUMENT);
    }
    return NULL;
}

static void threads(pmap *p)
{
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, asker, p) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
}

/* ---- What the command says ---- */

static void print_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20)
            printf("\\u%04x", c);
        else
            printf(c == '"' || c == '\\' ? "\\%c" : "%c", c);
    }
    putchar('"');
}

static void print_edges(const char *what, pmap_edge *list, int count)
{
    for (int i = 0; i < count; i++)
        printf("{\"what\":\"%s\",\"va\":\"0x%" PRIx64 "\",\"value\":\"0x%" PRIx64 "\"}\n", what, list[i].at,
               list[i].value);
}

static int print_path(void *user, const pmap_path *path)
{
    (void)user;
    printf("{\"what\":\"path\",\"base\":\"0x%" PRIx64 "\",\"pointer\":%s,\"offsets\":[", path->base,
           path->kind == PMAP_BASE_VALUE ? "true" : "false");
    for (uint32_t i = 0; i < path->count; i++)
        printf("%s%" PRId64, i == 0 ? "" : ",", path->offsets[i]);
    printf("]}\n");
    return 0;
}

/* SOURCE LAYOUT CR3 MAP LAST TEXT_LO TEXT_HI DATA_LO DATA_HI TARGET: MAP is the command's, of what stands up to LAST. */
static void agree(char **argv)
{
    vmie_mem *m = open_guest(argv[3], argv[4]);
    uintptr_t cr3 = (uintptr_t)number(argv[5]);
    pmap *p = pmap_open(m, cr3, argv[6]);
    CHECK(p != NULL);
    pmap_options user = {.from = {0, number(argv[7])}};
    pmap *own = pmap_build(m, cr3, &user);
    CHECK(own != NULL && pmap_count(own) == pmap_count(p));
    const pmap_range text = {number(argv[8]), number(argv[9])}, data = {number(argv[10]), number(argv[11])};

    int count = pmap_referrers(own, text.lo, text.hi, NULL, 0);
    pmap_edge *list = room(count, sizeof *list);
    CHECK(pmap_referrers(own, text.lo, text.hi, list, count) == count);
    qsort(list, (size_t)count, sizeof *list, by_place);
    print_edges("referrer", list, count);
    free(list);

    count = pmap_pointees(own, data.lo, data.hi, NULL, 0);
    list = room(count, sizeof *list);
    CHECK(pmap_pointees(own, data.lo, data.hi, list, count) == count);
    print_edges("pointee", list, count);
    free(list);
    pmap_free(own);

    pmap_search search = {0};
    search.target = number(argv[12]);
    search.bases = &data, search.base_count = 1;
    search.max_offset = 0x40, search.depth = 3;
    CHECK(pmap_paths_each(p, &search, print_path, NULL, NULL) >= 0);
    pmap_free(p);

    const uint64_t object[] = {data.lo, search.target};
    for (int i = 0; i < 2; i++) {
        struct_field fields[256];
        count = struct_dissect(m, cr3, object[i], 256, fields, 256);
        CHECK(count > 0 && count <= 256);
        for (int f = 0; f < count; f++) {
            CHECK(fields[f].cut == 0);
            printf("{\"what\":\"field\",\"offset\":%" PRIu64 ",\"len\":%" PRIu64 ",\"kind\":\"%s\",\"confidence\":%" PRIu32
                   ",\"value\":",
                   fields[f].offset, fields[f].len, struct_kind_name(fields[f].kind), fields[f].confidence);
            print_text(fields[f].text);
            printf(",\"detail\":");
            if (fields[f].detail[0] == 0)
                printf("null");
            else
                print_text(fields[f].detail);
            printf(",\"evidence\":");
            print_text(fields[f].evidence);
            printf("}\n");
        }
    }
    vmie_close(m);
}

int main(int argc, char **argv)
{
    if (argc == 13 && strcmp(argv[1], "agree") == 0) {
        CHECK(strcmp(argv[2], "pointers") == 0);
        agree(argv);
        return 0;
    }
    CHECK(argc == 5 && strcmp(argv[1], "check") == 0);
    vmie_mem *m = open_guest(argv[2], "-");
    region_count = vmie_regions(m, BARE_CR3, 0, UINT64_MAX, NULL, 0);
    regions = room(region_count, sizeof *regions);
    CHECK(vmie_regions(m, BARE_CR3, 0, UINT64_MAX, regions, region_count) == region_count);
    pmap *p = pmap_build(m, BARE_CR3, NULL);
    CHECK(p != NULL);
    nulls(m, p);
    senseless(m, p);
    edges(m, p);
    options(m);
    paths(m, p);
    objects(m);
    files(m, p, argv[4]);
    threads(p);
    /* A map does not need the memory that it was built of. */
    vmie_close(m);
    CHECK(pmap_referrers(p, BARE_WORLD, BARE_WORLD, NULL, 0) > 0);
    pmap_free(p);
    free(regions);
    return 0;
}
