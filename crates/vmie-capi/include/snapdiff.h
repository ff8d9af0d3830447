/*
 * snapdiff.h: what changed in an address space between a moment and now.
 *
 * The conventions are those of memmodel.h. To see one moment, let the guest stand still while one of these
 * functions runs: vmie_pause().
 */
#ifndef VMIE_SNAPDIFF_H
#define VMIE_SNAPDIFF_H

#include <memmodel.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What was mapped in a window of an address space at one moment, with its bytes. It does not depend on the
 * vmie_mem that it was taken of, and never changes: any number of threads may compare with one at once.
 */
typedef struct snapshot snapshot;

/*
 * Captures every mapped run in [lo, hi] whose protection has any of the VMIE_PROT_ bits `prot_any`; with 0, every
 * mapped run. Memory is taken for what is captured but for pages of zeros, and no more than nine tenths of
 * what the host has left.
 *
 * A window in which nothing is mapped is a snapshot as well, of nothing. vmie_last_coverage() tells what could not be
 * read; of that a comparison says nothing.
 *
 * Returns a snapshot to be freed with snap_free(), or NULL: VMIE_E_LIMIT when there is no memory for it, or more is
 * mapped than any guest maps; VMIE_E_ARGUMENT; VMIE_E_PAGING; VMIE_E_UNREADABLE when nothing of the window could be
 * looked at.
 */
snapshot *snap_take(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, uint32_t prot_any);

/* Frees a snapshot. NULL is nothing to free. */
void snap_free(snapshot *s);

/*
 * Captures the window of `s` again, compares, and lists what changed, in ascending order: runs of changed bytes,
 * as long as they go on with the same protection; runs that have appeared; runs that have disappeared. What has none
 * of the bits that the snapshot was taken with is not there, before as well as now. `prot` is the current
 * protection, 0 where nothing is mapped any more. A run of which only the protection is another, and which is
 * there before and now, has not changed. Runs that touch and have the same `prot` are one, whatever became of them.
 *
 * `m` and `cr3` may be another guest, or another moment of this one in another image.
 *
 * What cannot be read, before or now, is neither changed nor unchanged: it is not listed, and vmie_last_coverage()
 * counts it, of what is mapped before as well as now. Look at `complete` before you believe a 0.
 *
 * Writes up to `max` runs; with `changed` NULL, only counts. Returns the total number of runs, or -1:
 * VMIE_E_ARGUMENT, VMIE_E_PAGING, and VMIE_E_UNREADABLE when nothing could be compared.
 */
int snap_diff(const snapshot *s, vmie_mem *m, uintptr_t cr3, vregion *changed, int max);

#ifdef __cplusplus
}
#endif

#endif
