/* narrow.h: rightly used, wrongly used, and against a reference that reads every number. */
#include "changed.h"

#include <narrow.h>
#include <os.h>

#define LO BARE_HEAP
#define HI (BARE_HEAP + BARE_HEAP_LEN - 1)

static char saved[4096], kept[4096], other[4096];

static void put(vmie_mem *m, uint64_t va, uint32_t value)
{
    memcpy(at_va(m, va), &value, sizeof value);
}

static uint32_t get(vmie_mem *m, uint64_t va)
{
    uint32_t value;
    CHECK(vmie_read(m, BARE_CR3, va, &value, sizeof value, NULL) == 0);
    return value;
}

/* Whether a relation holds, by the words of the header. */
static int holds(int relation, uint32_t old, uint32_t now, uint64_t low, uint64_t high)
{
    switch (relation) {
    case NARROW_CHANGED:
        return old != now;
    case NARROW_UNCHANGED:
        return old == now;
    case NARROW_INCREASED:
        return now > old;
    case NARROW_DECREASED:
        return now < old;
    case NARROW_EQUAL:
        return now >= low && now <= high;
    case NARROW_NOT_EQUAL:
        return now < low || now > high;
    case NARROW_INCREASED_BY:
        return now >= old && now - old >= low && now - old <= high;
    default:
        return old >= now && old - now >= low && old - now <= high;
    }
}

static void against_reference(vmie_mem *before, vmie_mem *now)
{
    gva_value none = {.u = 0}, all = {.u = UINT32_MAX}, low = {.u = 3}, high = {.u = 7};
    uint64_t count = 0;
    CHECK(gva_value_save(before, BARE_CR3, LO, HI, 0, VALUE_U32, &none, &all, 0, saved, &count) == 0);
    CHECK(count == BARE_HEAP_LEN / 4);
    for (int relation = NARROW_CHANGED; relation <= NARROW_DECREASED_BY; relation++) {
        int has = relation >= NARROW_EQUAL;
        int total = gva_value_narrow(now, BARE_CR3, saved, relation, has ? &low : NULL, has ? &high : NULL, NULL, NULL, 0);
        CHECK(total >= (relation == NARROW_EQUAL ? 0 : 1));
        narrow_hit *hits = room(total, sizeof *hits);
        CHECK(gva_value_narrow(now, BARE_CR3, saved, relation, has ? &low : NULL, has ? &high : NULL, kept, hits,
                               total) == total);
        int at = 0;
        for (uint64_t va = LO; va < HI; va += 4) {
            uint32_t old = get(before, va), value = get(now, va);
            if (!holds(relation, old, value, low.u, high.u))
                continue;
            CHECK(at < total && hits[at].va == va && hits[at].value.u == value && hits[at].old.u == old);
            at++;
        }
        CHECK(at == total);
        free(hits);
        /* What is left is as it is now: nothing of it has changed. */
        CHECK(gva_value_narrow(now, BARE_CR3, kept, NARROW_UNCHANGED, NULL, NULL, NULL, NULL, 0) == total);
        CHECK(gva_value_narrow(now, BARE_CR3, kept, NARROW_CHANGED, NULL, NULL, NULL, NULL, 0) == 0);
    }
}

/* Step by step, each into the file it came from. */
static void step_by_step(vmie_mem *first, vmie_mem *second)
{
    gva_value hundred = {.u = 100}, five = {.u = 5};
    narrow_hit hit;
    uint64_t count;
    CHECK(gva_value_save(first, BARE_CR3, LO, HI, 0, VALUE_U32, &hundred, NULL, 0, other, &count) == 0);
    CHECK(count >= 2);
    CHECK(gva_value_narrow(second, BARE_CR3, other, NARROW_INCREASED_BY, &five, NULL, other, &hit, 1) == 1);
    CHECK(hit.va == LO + 0x10 && hit.value.u == 105 && hit.old.u == 100);
    CHECK(gva_value_narrow(first, BARE_CR3, other, NARROW_DECREASED_BY, &five, NULL, NULL, &hit, 1) == 1);
    CHECK(hit.va == LO + 0x10 && hit.value.u == 100 && hit.old.u == 105);
    /* Signs and floats are told by the members that go with their types. */
    gva_value minus = {.i = -31337}, half = {.f = 0.8125};
    CHECK(gva_value_save(first, BARE_CR3, LO, HI, 0, VALUE_I32, &minus, NULL, 0, other, &count) == 0 && count == 1);
    CHECK(gva_value_narrow(second, BARE_CR3, other, NARROW_INCREASED, NULL, NULL, NULL, &hit, 1) == 1);
    CHECK(hit.va == LO + 0x20 && hit.old.i == -31337 && hit.value.i == 4);
    CHECK(gva_value_save(first, BARE_CR3, LO, HI, 0, VALUE_F32, &half, NULL, 0, other, &count) == 0 && count == 1);
    CHECK(gva_value_narrow(second, BARE_CR3, other, NARROW_DECREASED, NULL, NULL, NULL, &hit, 1) == 1);
    CHECK(hit.va == LO + 0x30 && hit.old.f == 0.8125 && hit.value.f == 0.25);
    /* None is an answer, and a file of none has none. */
    CHECK(gva_value_narrow(second, BARE_CR3, other, NARROW_INCREASED, NULL, NULL, other, NULL, 0) == 0);
    CHECK(gva_value_narrow(second, BARE_CR3, other, NARROW_CHANGED, NULL, NULL, NULL, NULL, 0) == 0);
}

static void misuse(vmie_mem *m)
{
    gva_value one = {.u = 1}, minus = {.i = -1};
    uint64_t count;
    FAILS(gva_value_save(NULL, BARE_CR3, LO, HI, 0, VALUE_U32, &one, NULL, 0, other, &count), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_save(m, BARE_CR3, LO, HI, 0, VALUE_U32, NULL, NULL, 0, other, &count), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_save(m, BARE_CR3, LO, HI, 0, 0, &one, NULL, 0, other, &count), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_save(m, BARE_CR3, LO, HI, 0, VALUE_U32, &one, NULL, 0, NULL, &count), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_save(m, BARE_CR3, LO, HI, 0, VALUE_U32, &one, NULL, 0, "/nowhere/file", &count), -1, VMIE_E_IO);
    FAILS(gva_value_save(m, BARE_CR3, 1, 2, 0, VALUE_U8, &one, NULL, 0, other, &count), -1, VMIE_E_UNREADABLE);
    CHECK(gva_value_save(m, BARE_CR3, LO, HI, 0, VALUE_U32, &one, NULL, 0, other, NULL) == 0);
    FAILS(gva_value_narrow(m, BARE_CR3, other, 0, NULL, NULL, NULL, NULL, 0), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_narrow(m, BARE_CR3, other, 9, &one, NULL, NULL, NULL, 0), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_narrow(m, BARE_CR3, other, NARROW_CHANGED, &one, NULL, NULL, NULL, 0), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_narrow(m, BARE_CR3, other, NARROW_EQUAL, NULL, NULL, NULL, NULL, 0), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_narrow(m, BARE_CR3, other, NARROW_CHANGED, NULL, NULL, NULL, NULL, -1), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_narrow(m, BARE_CR3, NULL, NARROW_CHANGED, NULL, NULL, NULL, NULL, 0), -1, VMIE_E_ARGUMENT);
    FAILS(gva_value_narrow(m, BARE_CR3, "/nowhere/file", NARROW_CHANGED, NULL, NULL, NULL, NULL, 0), -1, VMIE_E_OPEN);
    FAILS(gva_value_narrow(m, VMIE_PHYS, other, NARROW_CHANGED, NULL, NULL, NULL, NULL, 0), -1, VMIE_E_NOT_FOUND);
    /* An amount is never negative. */
    CHECK(gva_value_save(m, BARE_CR3, LO, HI, 0, VALUE_I32, &one, NULL, 0, other, NULL) == 0);
    FAILS(gva_value_narrow(m, BARE_CR3, other, NARROW_INCREASED_BY, &minus, NULL, NULL, NULL, 0), -1, VMIE_E_ARGUMENT);
    /* A damaged file is none. */
    FILE *file = fopen(other, "r+b");
    CHECK(file != NULL && fseek(file, -1, SEEK_END) == 0 && fputc(0x55, file) != EOF && fclose(file) == 0);
    FAILS(gva_value_narrow(m, BARE_CR3, other, NARROW_CHANGED, NULL, NULL, NULL, NULL, 0), -1, VMIE_E_OPEN);
}

int main(int argc, char **argv)
{
    CHECK(argc == 5 && strcmp(argv[1], "check") == 0);
    snprintf(saved, sizeof saved, "%s/saved", argv[4]);
    snprintf(kept, sizeof kept, "%s/kept", argv[4]);
    snprintf(other, sizeof other, "%s/other", argv[4]);
    vmie_mem *m = open_guest(argv[2], "-");
    load(argv[2]);
    float half = 0.8125f, quarter = 0.25f;
    uint32_t bits;
    put(m, LO + 0x10, 100);
    put(m, LO + 0x14, 100);
    put(m, LO + 0x20, (uint32_t)-31337);
    put(m, LO + 0x40, 50);
    put(m, LO + 0x44, 50);
    memcpy(&bits, &half, sizeof bits);
    put(m, LO + 0x30, bits);
    vmie_mem *first = reopened(argv[4]);
    put(m, LO + 0x10, 105);
    put(m, LO + 0x20, 4);
    memcpy(&bits, &quarter, sizeof bits);
    put(m, LO + 0x30, bits);
    put(m, LO + 0x40, 46);
    put(m, LO + 0x44, 54);
    vmie_mem *second = reopened(argv[4]);
    misuse(first);
    against_reference(first, second);
    step_by_step(first, second);
    vmie_close(second);
    vmie_close(first);
    vmie_close(m);
    free(image);
    return 0;
}
