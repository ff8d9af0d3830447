/*
 * scan.h: searches through an address space.
 *
 * Common to all: `m` and `cr3` name the memory, VMIE_PHYS physical memory. [lo, hi] is what is looked at, so results
 * lie in it as a whole; 0 and UINT64_MAX are all there is. `prot_all` leaves out regions that do not allow all of these VMIE_PROT_ bits;
 * 0 leaves out nothing. Matches cross page, region and protection borders, never holes. All of them are found,
 * overlapping ones too. Results come by address.
 *
 * When not one byte could be looked at the answer is VMIE_E_UNREADABLE, never 0. Where only a part could not be
 * looked at, vmie_last_coverage() tells. One search looks at no more than 64 times the guest's RAM (at least 64 GiB):
 * page tables can be made to describe more than anyone has time for; what lies behind counts as lost.
 *
 * Cost: one pass over what is mapped in [lo, hi], on all threads (vmie_set_threads()), about as fast as memory for
 * signatures and values.
 *
 * Conventions: see memmodel.h.
 */
#ifndef VMIE_SCAN_H
#define VMIE_SCAN_H

#include "sigscan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Windows --------------------------------------------------------------------------------------- */

/* A piece of memory without holes. */
typedef struct scan_window {
    uint64_t va;          /* address of bytes[0] */
    const uint8_t *bytes; /* a copy, which the guest cannot change; until the callback returns */
    size_t len;           /* bytes there are */
    size_t owned;         /* of these, the window's own; the others are the beginning of the next one */
} scan_window;

/* Is shown a window. What starts in bytes[0] to bytes[owned - 1] is its business. Not 0 ends the sweep. */
typedef int (*scan_window_fn)(const scan_window *window, void *user);

/*
 * Shows the callback all memory in [lo, hi], window by window, by address. Each byte is owned by one window. Windows
 * end at holes, so what is shown is always contiguous and readable.
 *
 * `window` is the most bytes that a window owns, up to 64 MiB; 0 is a good choice. `overlap` is how many bytes behind
 * those it shows where memory goes on, up to 64 MiB: the longest thing looked for, less one. `user` is passed on.
 *
 * The callback may call anything but vmie_close() on `m`. The coverage is known when this returns.
 *
 * Returns 0 when all was shown, 1 when the callback ended it, or -1.
 */
int gva_sweep(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, uint32_t prot_all, size_t window,
              size_t overlap, scan_window_fn callback, void *user);

/* ---- Signatures ------------------------------------------------------------------------------------ */

/* Lists where a signature matches. Returns the total or -1. */
int gva_sig_scan(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, uint32_t prot_all, const vmie_sig *sig,
                 uint64_t *out, int max);

/* A match of a set. */
typedef struct sig_match {
    uint64_t va;       /* its first byte */
    uint32_t sig;      /* index in the set */
    uint32_t reserved; /* 0 */
} sig_match;

/* Lists where the signatures of a set match, in one pass; by address, then by index. Returns the total or -1. */
int gva_sig_scan_multi(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, uint32_t prot_all,
                       const struct sigset *set, sig_match *out, int max);

/* ---- Code ------------------------------------------------------------------------------------------ */

/* What an instruction does with the address it refers to. */
enum {
    CODE_XREF_CALL = 1,
    CODE_XREF_JUMP = 2,
    CODE_XREF_BRANCH = 3,       /* jumps there under a condition */
    CODE_XREF_CALL_THROUGH = 4, /* calls what the pointer there points to */
    CODE_XREF_JUMP_THROUGH = 5,
    CODE_XREF_ADDRESS = 6, /* computes the address: lea */
    CODE_XREF_MEMORY = 7,  /* reads or writes there */
    CODE_XREF_IMMEDIATE = 8 /* has the address as a number */
};

/* An instruction that refers to an address. */
typedef struct code_xref {
    uint64_t va;     /* its first byte */
    uint64_t target; /* the address */
    uint32_t kind;   /* CODE_XREF_ */
    uint16_t len;    /* bytes of the instruction */
    uint16_t linear; /* 1: a decode of the code before arrives at it; 0: probably data that looks like code */
} code_xref;

/*
 * Lists every instruction in [lo, hi] that targets an address in [target_lo, target_hi]; the same address
 * twice for one. With `prot_all` 0, where code may be executed. `bits` is 64 or 32, how wide the code is, or 0: in
 * a process's user-space range as wide as its program's, if the handle knows (see pmap_build() in pmap.h), else by the paging mode.
 *
 * Returns the total or -1; VMIE_E_ARGUMENT for VMIE_PHYS, for code refers to virtual addresses.
 */
int gva_code_xref(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, uint32_t prot_all, int bits,
                  uint64_t target_lo, uint64_t target_hi, code_xref *out, int max);

/* ---- Values ---------------------------------------------------------------------------------------- */

/* Types of numbers, little-endian. */
enum {
    VALUE_U8 = 1,
    VALUE_I8 = 2,
    VALUE_U16 = 3,
    VALUE_I16 = 4,
    VALUE_U32 = 5,
    VALUE_I32 = 6,
    VALUE_U64 = 7,
    VALUE_I64 = 8,
    VALUE_F32 = 9,
    VALUE_F64 = 10
};

/* A number: `u` of the types without sign, `i` of those with one, `f` of both floats. */
typedef union gva_value {
    uint64_t u;
    int64_t i;
    double f;
} gva_value;

/* A number that was found. */
typedef struct value_hit {
    uint64_t va;
    gva_value value;
} value_hit;

/*
 * Lists the numbers of a type that are at least `*low` and at most `*high`; with `high` NULL those equal to `*low`.
 * With a NaN as `*low`, and NULL or a NaN as `*high`, those that are no numbers; otherwise a NaN is in no range. A
 * single-precision number is compared as it is: for one that is 0.1 say `low.f = 0.1f`. Equal to what the type does
 * not have, such as 16777217 or 1e40 in single precision, is an error; the bounds of a range may be anything.
 *
 * They stand at multiples of `align`: 1, 2, 4, 8, ... up to 4096; 0 is the size of the type.
 *
 * Returns the total or -1: VMIE_E_ARGUMENT also when no value of the type is in the range.
 */
int gva_value_scan(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, uint32_t prot_all, int type,
                   const gva_value *low, const gva_value *high, uint32_t align, value_hit *out, int max);

/* ---- Pointers -------------------------------------------------------------------------------------- */

/* The most pointers that a path follows. */
#define SCAN_PATH_DEPTH 8

/*
 * How an address is reached: read the pointer at `base`, add offsets[0], read the pointer there, add offsets[1], ...;
 * after offsets[depth - 1] it is the address.
 */
typedef struct scan_path {
    uint64_t base;
    uint32_t depth;    /* how many pointers are followed, from 1 */
    uint32_t reserved; /* 0 */
    int64_t offsets[SCAN_PATH_DEPTH]; /* in bytes; behind `depth` of them, 0 */
} scan_path;

/*
 * Lists how `target` is reached from the pointers that stand in [base_lo, base_hi], following at most `depth`
 * pointers and adding at most `max_offset` to each. Pointers are as wide as pmap_build() of pmap.h says of 0, stand at
 * multiples of that, and stand and lead in [lo, hi]. Shortest paths come first, then by base, then by offsets.
 *
 * This reads all of [lo, hi] once for each pointer of depth and keeps nothing. pmap.h, which keeps an index, is for
 * more than one question. Paths can be very many: their number grows with each pointer of depth.
 *
 * Returns the total or -1; VMIE_E_LIMIT when memory is too large or too scattered. Where so many places lead to the
 * target that the search was not as deep as `depth`, the coverage is not complete.
 */
int scan_pointer(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, uint64_t base_lo, uint64_t base_hi,
                 uint64_t target, int depth, uint64_t max_offset, scan_path *out, int max);

#ifdef __cplusplus
}
#endif

#endif
