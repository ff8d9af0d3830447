/*
 * memmodel.h: a guest's memory, and what the other headers have in common.
 *
 * A vmie_mem is the memory of one guest: a saved image, a snapshot, or a running QEMU. An address space
 * is named by a handle and a cr3, the physical address of its top page table as the CR3 register has it;
 * flag and PCID bits do not count. VMIE_PHYS in place of a cr3 means physical memory itself.
 *
 * Conventions, in all headers
 *
 *   Ranges       are [lo, hi], both included, in bytes. 0 and UINT64_MAX are the whole space: only then what
 *                is not mapped does not count as asked for.
 *   Lists        are written into memory of the caller's: `out` with room for `max` elements. As many as fit
 *                are written, in ascending order, and the total is returned, which may be more. With `out`
 *                NULL nothing is written, only counted. Totals beyond INT_MAX are INT_MAX.
 *   Errors       are -1 or NULL; vmie_last_error() and vmie_last_error_text() tell more, for each thread on
 *                its own. Bad arguments are errors: NULL where a handle or text is needed, negative `max`,
 *                lo > hi, bits that mean nothing. What was written to out parameters before an error is
 *                unspecified.
 *   Not found    is 0. That nothing could be looked at is an error, VMIE_E_UNREADABLE, never 0. That a part
 *                could not be looked at, vmie_last_coverage() tells, whatever was returned.
 *   Ownership    What a function makes has a function that destroys it, which accepts NULL. Destroying twice,
 *                or using what was destroyed, is undefined, as with free(). Text that is returned belongs to
 *                the library.
 *   Threads      A handle may be used from any number of threads at once; it must not be destroyed while it
 *                is in use. There is no state besides handles and each thread's last error and coverage.
 *   Callbacks    run on the calling thread. They must return: no longjmp and no C++ exception may leave them.
 *   Guests       are never written to, and nothing in a guest or an image makes the library fail otherwise
 *                than with an error. A fault within the library itself is the error VMIE_E_PANIC.
 *   32-bit hosts uintptr_t cannot name page tables above 4 GiB there. Build for 64 bits to look at 64-bit
 *                guests.
 */
#ifndef VMIE_MEMMODEL_H
#define VMIE_MEMMODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of these headers. Before 1.0 the ABI is that of one minor version, as the soname says. */
#define VMIE_VERSION_MAJOR 0
#define VMIE_VERSION_MINOR 1
#define VMIE_VERSION_PATCH 0
#define VMIE_VERSION_NUMBER \
    ((VMIE_VERSION_MAJOR << 16) | (VMIE_VERSION_MINOR << 8) | VMIE_VERSION_PATCH)

/* The version of the library: as VMIE_VERSION_NUMBER, and as text ("0.1.0"), which lasts for ever. */
uint32_t vmie_version_number(void);
const char *vmie_version(void);

/* ---- Errors ---------------------------------------------------------------------------------------- */

enum {
    VMIE_OK = 0,
    VMIE_E_ARGUMENT = 1,    /* an argument cannot be meant: see Conventions */
    VMIE_E_OPEN = 2,        /* a file or socket cannot be opened, or is not what is read */
    VMIE_E_PAGING = 3,      /* no page tables at this cr3, or none that are understood */
    VMIE_E_NOT_MAPPED = 4,  /* the guest's page tables say that nothing is there */
    VMIE_E_UNREADABLE = 5,  /* what was asked for cannot be looked at: not in the image, ... */
    VMIE_E_SYNTAX = 6,      /* a text that does not parse; vmie_last_error_column() says where */
    VMIE_E_LIMIT = 7,       /* more than is possible: too large, too many */
    VMIE_E_UNSUPPORTED = 8, /* not for this kind of source */
    VMIE_E_GONE = 9,        /* the guest has quit, or QEMU did not do what it was asked for */
    VMIE_E_OS = 10,         /* the guest's operating system was not found, or does not tell this */
    VMIE_E_NOT_FOUND = 11,  /* nothing has this name or number */
    VMIE_E_IO = 12,         /* a file cannot be written or read */
    VMIE_E_PANIC = 13       /* a fault within the library; please report it */
};

/*
 * Why the last call on this thread failed, or VMIE_OK when it did not fail. The functions that begin with
 * vmie_last_ do not count as calls.
 */
int vmie_last_error(void);

/*
 * The same in words, UTF-8; "" when the last call did not fail. Never NULL. It stays valid until the next
 * call on this thread. Bytes of the guest's or of an image in it may be control characters: escape it for a
 * terminal.
 */
const char *vmie_last_error_text(void);

/* With VMIE_E_SYNTAX: where in its line, in characters from 1. Otherwise 0. */
uint32_t vmie_last_error_column(void);

/*
 * With VMIE_E_NOT_MAPPED and VMIE_E_UNREADABLE of a read or translation: the first address that could not be
 * read or translated. Otherwise 0.
 */
uint64_t vmie_last_error_address(void);

/* What became of the bytes that a search, a walk or a capture was asked for. */
typedef struct vmie_coverage {
    uint64_t mapped;   /* bytes that are mapped: read + absent, where pages are read at all */
    uint64_t read;     /* of these, were looked at */
    uint64_t absent;   /* of these, could not be read: not in the image, damaged, ... */
    uint64_t lost;     /* not known whether mapped: page tables absent, or the bound on work was reached */
    uint64_t unmapped; /* asked for by [lo, hi], and not mapped */
    uint64_t gaps;     /* in how many pieces what was not read lies */
    uint32_t complete; /* 1: absent and lost are 0, so what was not found is not there; else 0 */
    uint32_t stopped;  /* 1: the caller ended it, and nothing is said about what lies behind; else 0 */
} vmie_coverage;

/*
 * The coverage of the last call on this thread that looks through memory, whatever that call returned.
 * Returns 0, or -1 when there was none yet, when the last one failed before it began, or when `out` is NULL.
 */
int vmie_last_coverage(vmie_coverage *out);

/* ---- Memory ---------------------------------------------------------------------------------------- */

/* The memory of one guest. */
typedef struct vmie_mem vmie_mem;

/* In place of a cr3: physical memory. Every byte of it may be read, written and executed. */
#define VMIE_PHYS UINTPTR_MAX

/*
 * Bits of `prot`: the effective protection, all levels of the page tables taken together. Execution is a right of
 * each mode: VMIE_PROT_X is that of user mode where it may use the page, else of the kernel.
 */
enum {
    VMIE_PROT_R = 1,
    VMIE_PROT_W = 2,
    VMIE_PROT_X = 4,
    VMIE_PROT_USER = 8,    /* user mode may use it */
    VMIE_PROT_OTHER_X = 16 /* the other mode may execute it, too, where page tables say so; cannot be asked for */
};

/* A run of addresses with the same protection. 24 bytes on 64-bit hosts. */
typedef struct vregion {
    uint64_t va;   /* first address; of physical memory, the physical one */
    uint64_t len;  /* bytes, not zero */
    uint32_t prot; /* VMIE_PROT_ bits */
} vregion;

/*
 * Opens a guest: a file with a memory image or a snapshot, recognised by its content, or a running QEMU as
 * "qemu:SOCKET", the path of its QMP socket (Linux only). `source` is in the encoding of the file system.
 *
 * Image files are mapped and must not be cut while they are open. Where RAM has a hole, a raw image does not say so: of the
 * layouts that are plausible for its size the one that proves itself by page tables is taken, when it is opened, by the first
 * cr3, or when the operating system is found, and until then all of it begins at physical address 0. A note says which, or
 * that it is not known yet.
 *
 * Returns a handle to be closed with vmie_close(), or NULL: VMIE_E_ARGUMENT, VMIE_E_OPEN, VMIE_E_GONE.
 */
vmie_mem *vmie_open(const char *source);

/*
 * Opens a raw image of which it is known how it is laid out. `layout` says where its bytes
 * belong: "pc", "q35" or "microvm" for QEMU's machines, or a list GPA+LEN@OFFSET,... such as
 * "0+2GiB@0,4GiB+2GiB@2GiB". NULL is vmie_open().
 */
vmie_mem *vmie_open_layout(const char *path, const char *layout);

/* Closes a handle, and lets a guest that vmie_pause() stopped run on. NULL is nothing to close. */
void vmie_close(vmie_mem *m);

/* What the source is, in one word: "raw", "elf", "snapshot", "qemu", ... Lasts until vmie_close(). NULL is an error. */
const char *vmie_format(vmie_mem *m);

/*
 * Oddities met while opening, for the user, one for each `index` from 0: a file that ends too early, for one.
 * Lasts until vmie_close(). NULL behind the last one, and on bad input.
 */
const char *vmie_note(vmie_mem *m, int index);

/* Whether the memory may change while it is looked at: 1, 0, or -1 on bad input. */
int vmie_is_live(vmie_mem *m);

/*
 * Stops a running guest until vmie_resume() or vmie_close(); the connection to QEMU is held meanwhile. A guest
 * that did not run, or is paused already, is left as it is. What ends the process without vmie_close() leaves
 * the guest stopped.
 *
 * Returns 0 or -1: VMIE_E_UNSUPPORTED for anything but a running guest, VMIE_E_GONE.
 */
int vmie_pause(vmie_mem *m);

/* Lets a guest run on that vmie_pause() stopped; otherwise does nothing. Returns 0 or -1 as vmie_pause(). */
int vmie_resume(vmie_mem *m);

/*
 * How many threads searches use: 0 as many as the machine has, which is the beginning; 1 none but the calling
 * one. Results do not depend on it. Returns 0, or -1 when `threads` is negative.
 */
int vmie_set_threads(vmie_mem *m, int threads);

/* Lists the ranges of physical memory that there should be; `va` is the physical address. Returns the total or -1. */
int vmie_ranges(vmie_mem *m, vregion *out, int max);

/* A CPU as it was when the memory was saved, or when a running guest was opened. */
typedef struct vmie_cpu {
    uint64_t cr3; /* without flag and PCID bits where `paging` is known */
    uint64_t cr0;
    uint64_t cr4;
    uint64_t rip;
    uint64_t rsp;
    uint32_t index;  /* from 0, in the order of the source */
    uint32_t paging; /* VMIE_PAGING_ mode, 0 when paging is off or it is not known */
} vmie_cpu;

/* Lists the CPUs, none where the source does not record them. Returns the total or -1. */
int vmie_cpus(vmie_mem *m, vmie_cpu *out, int max);

/* ---- Address spaces -------------------------------------------------------------------------------- */

enum {
    VMIE_PAGING_AUTO = 0,
    VMIE_PAGING_X86 = 1,    /* two levels, 32-bit entries */
    VMIE_PAGING_PAE = 2,    /* three levels */
    VMIE_PAGING_4LEVEL = 3, /* 48-bit addresses */
    VMIE_PAGING_5LEVEL = 4  /* 57-bit addresses */
};

/*
 * Sets the paging mode of all address spaces of a handle. With VMIE_PAGING_AUTO, the beginning, it is told by the
 * CPUs where the source records them, else by the tables at each cr3. Calls that run already are not affected.
 *
 * Returns 0 or -1.
 */
int vmie_set_paging(vmie_mem *m, int mode);

/*
 * The paging mode in which a cr3 is understood. `confirmed`, if not NULL, gets 0 when it is a guess that users
 * should be told about, else 1.
 *
 * Returns a VMIE_PAGING_ mode above 0, or -1: VMIE_E_PAGING, and VMIE_E_ARGUMENT for VMIE_PHYS.
 */
int vmie_paging(vmie_mem *m, uintptr_t cr3, int *confirmed);

/* Where an address is mapped. */
typedef struct vmie_mapping {
    uint64_t gpa;       /* the physical address */
    uint64_t page_size; /* bytes of the page that maps it */
    uint32_t prot;      /* VMIE_PROT_ bits */
    uint32_t reserved;  /* 0 */
} vmie_mapping;

/*
 * Translates a virtual address through the page tables at `cr3`.
 *
 * Returns 0, or -1: VMIE_E_NOT_MAPPED when a CPU would fault, VMIE_E_UNREADABLE when a table that is needed is
 * not there to be looked at, VMIE_E_ARGUMENT for VMIE_PHYS.
 */
int vmie_translate(vmie_mem *m, uintptr_t cr3, uint64_t va, vmie_mapping *out);

/*
 * Reads `len` bytes from `va` on into `buf`. `done`, if not NULL, gets how many bytes were read before the first
 * one that could not be; those of `buf` behind are unspecified.
 *
 * Returns 0 when all were read, or -1: VMIE_E_NOT_MAPPED, VMIE_E_UNREADABLE, VMIE_E_GONE.
 */
int vmie_read(vmie_mem *m, uintptr_t cr3, uint64_t va, void *buf, size_t len, size_t *done);

/* The same for physical memory: vmie_read() with VMIE_PHYS. */
int vmie_read_phys(vmie_mem *m, uint64_t gpa, void *buf, size_t len, size_t *done);

/*
 * Lists what is mapped in [lo, hi]: maximal runs with the same protection, cut to [lo, hi]. No page is read, so
 * of the coverage `mapped` and `lost` count, and `read` is 0.
 *
 * Returns the total (0: nothing is mapped), or -1: also when nothing is found, with VMIE_E_UNREADABLE where page
 * tables were missing, and with VMIE_E_PAGING where the whole space was asked for, which no guest leaves empty.
 */
int vmie_regions(vmie_mem *m, uintptr_t cr3, uint64_t lo, uint64_t hi, vregion *out, int max);

#ifdef __cplusplus
}
#endif

#endif
