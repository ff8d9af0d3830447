/*
 * narrow.h: numbers that were found, looked at again.
 *
 * A search for a number that is not known yet goes step by step: save all candidates, let the guest change something,
 * keep those that changed as they should have, and so on until few are left. Candidates are in files, so that there
 * may be tens of millions of them; `vmie find --save` and `--refine` write and read the same files.
 *
 * A file says whose memory its candidates are in. A process is known by its number and start and a kernel by its version,
 * if the handle knows the operating system (vmie_os_find() in os.h, before); else a space is known by its root alone,
 * and is another one where that differs.
 *
 * Cost: saving as gva_value_scan() and a file of 24 bytes for a number; looking again ten to twenty nanoseconds a
 * candidate, and no memory for them.
 *
 * Conventions: see memmodel.h and scan.h.
 */
#ifndef VMIE_NARROW_H
#define VMIE_NARROW_H

#include "scan.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Saves what gva_value_scan() would list in a file, which appears when it is whole and takes the place of one that is
 * there. How many there are is in `*count`, unless it is NULL.
 *
 * Returns 0 when it could look at all, or -1. Where only a part could not be looked at it is 0 too, and
 * vmie_last_coverage() tells.
 */
int gva_value_save(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, uint32_t prot_all, int type,
                   const gva_value *low, const gva_value *high, uint32_t align, const char *path, uint64_t *count);

/* What is asked of a number that was seen before. */
enum {
    NARROW_CHANGED = 1,
    NARROW_UNCHANGED = 2,
    NARROW_INCREASED = 3,
    NARROW_DECREASED = 4,
    NARROW_EQUAL = 5,        /* it is in [low, high] now, or is `low`, whatever it was */
    NARROW_NOT_EQUAL = 6,    /* it is not */
    NARROW_INCREASED_BY = 7, /* by an amount in [low, high], or by `low` */
    NARROW_DECREASED_BY = 8
};

/* A candidate that is left. */
typedef struct narrow_hit {
    uint64_t va;
    gva_value value; /* what it is now */
    gva_value old;   /* what it was when it was saved */
} narrow_hit;

/*
 * Lists the candidates in a file for which a relation holds now, and saves them in the file `to` with what they are now,
 * unless that is NULL; it may be `from`. `low` and `high` are as in gva_value_scan(), for the relations that have
 * them, and NULL for all others; amounts are never negative.
 *
 * Candidates that cannot be read are neither changed nor unchanged: they are not listed, are kept as they were in
 * `to`, and make the coverage incomplete.
 *
 * Returns how many are listed or -1: VMIE_E_NOT_FOUND where the file is of another space than this, VMIE_E_UNSUPPORTED
 * where it has something else than numbers of one type, or candidates in several spaces, VMIE_E_OPEN where it is
 * damaged or no such file. A process that was started anew since is another one.
 */
int gva_value_narrow(vmie_mem *m, uintptr_t cr3, const char *from, int relation, const gva_value *low,
                     const gva_value *high, const char *to, narrow_hit *out, int max);

#ifdef __cplusplus
}
#endif

#endif
