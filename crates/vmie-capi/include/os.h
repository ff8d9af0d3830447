/*
 * os.h: what the guest's operating system knows: processes, modules and symbols.
 *
 * The conventions are those of memmodel.h. Nothing here is of one operating system; vmie_os_kind() tells which it
 * is. Lists belong to the guest, and may be damaged or doctored: what did not add up while one was read,
 * vmie_finding() tells. All text is the guest's, in UTF-8: escape it for a terminal.
 */
#ifndef VMIE_OS_H
#define VMIE_OS_H

#include <memmodel.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An operating system that was found in a guest. It stays usable when the vmie_mem is closed. */
typedef struct vmie_os vmie_os;

/*
 * Finds the guest's operating system and verifies what was found; needs no profile. From then on the functions of the
 * other headers know, for this `m`, which cr3 is that of a 32-bit program, and look at the pages of a process that are
 * in memory though the CPU faults on them (automatic NUMA balancing, PROT_NONE) like at all others.
 *
 * Returns a handle to be freed with vmie_os_free(), or NULL: VMIE_E_OS, whose text says what each step of the search has
 * seen, and VMIE_E_UNSUPPORTED for a snapshot of one address space.
 */
vmie_os *vmie_os_find(vmie_mem *m);

/* Frees a handle; vmie_names made of it stay usable. NULL is nothing to free. */
void vmie_os_free(vmie_os *os);

/* Which system it is, in one word, such as "linux". Lasts until vmie_os_free(). NULL is an error. */
const char *vmie_os_kind(vmie_os *os);

/* Its version, as it puts it itself. Lasts until vmie_os_free(). NULL is an error. */
const char *vmie_os_version(vmie_os *os);

/* The root of the kernel's own address space, for the other headers. Returns 0 or -1. */
int vmie_os_kernel_cr3(vmie_os *os, uint64_t *cr3);

/*
 * What did not add up while the last vmie_processes() or vmie_modules() of this thread read its list, in words: one
 * for each `index` from 0, NULL behind the last one. With findings, rows may be missing. Lasts until the next of
 * these calls on this thread. Like vmie_last_error_text() it is no call that could fail.
 */
const char *vmie_finding(int index);

/* ---- Processes ------------------------------------------------------------------------------------- */

/* In place of a process: the kernel. */
#define VMIE_KERNEL UINT32_MAX

enum {
    VMIE_PROCESS_KERNEL = 1, /* it runs in the kernel only and has no memory of its own */
    VMIE_PROCESS_CUT = 2     /* its name did not fit */
};

/* A process. 128 bytes. */
typedef struct vmie_process {
    uint64_t cr3;        /* root of its address space, kernel included; 0 for none */
    uint64_t user_cr3;   /* root that its user mode uses, where that is another one, else cr3 */
    uint64_t object;     /* address of the kernel's record of it */
    uint64_t started_ns; /* after boot; UINT64_MAX when not known */
    uint32_t pid;
    uint32_t ppid;       /* of its parent, 0 for none */
    uint32_t uid;        /* the user it belongs to, UINT32_MAX when the system does not number users */
    uint32_t threads;
    uint32_t flags;      /* VMIE_PROCESS_ bits */
    char state;          /* as ps has it: R running, S sleeping, D waiting, Z exited, ... */
    char name[75];       /* short name */
} vmie_process;

/*
 * Lists the processes, kernel threads included, by ascending number.
 *
 * Returns the total, or -1: VMIE_E_OS when the list could not be looked at.
 */
int vmie_processes(vmie_os *os, vmie_process *out, int max);

/* ---- Modules --------------------------------------------------------------------------------------- */

enum {
    VMIE_MODULE_NAME_CUT = 1, /* its name did not fit */
    VMIE_MODULE_PATH_CUT = 2  /* its path did not fit */
};

/* A module: of the kernel, or the program or a library of a process. 680 bytes. */
typedef struct vmie_module {
    uint64_t va;    /* the address that the system gives for it: where its code starts, or its header */
    uint64_t len;   /* bytes that it takes in all */
    uint64_t start; /* its lowest address */
    uint64_t span;  /* bytes from there to its highest address; there may be gaps, and others within them */
    uint32_t flags; /* VMIE_MODULE_ bits */
    char name[132];
    char path[512]; /* of its file, "" when not known */
} vmie_module;

/*
 * Lists the modules of the kernel, by VMIE_KERNEL, or of a process, by ascending `start`.
 *
 * Returns the total, or -1: VMIE_E_NOT_FOUND for no such process, VMIE_E_OS when the list could not be looked at or the
 * process has no memory.
 */
int vmie_modules(vmie_os *os, uint32_t pid, vmie_module *out, int max);

/* ---- Symbols --------------------------------------------------------------------------------------- */

/* A symbol, valid while it is handed over. */
typedef struct vmie_symbol {
    uint64_t va;
    const char *name;
    char kind; /* in the letters of nm: T and t code, D and d data, ... */
} vmie_symbol;

/* Takes a symbol. Anything but 0 ends the list. */
typedef int (*vmie_symbol_fn)(const vmie_symbol *symbol, void *user);

/*
 * Hands over the symbols of an image in ascending order: of the kernel itself with VMIE_KERNEL and `module` NULL, else of
 * the module of this name of the kernel or the process. `user` is passed on.
 *
 * Returns how many were handed over, or -1: VMIE_E_NOT_FOUND for no such process or module, VMIE_E_OS when it has none that
 * can be read.
 */
int vmie_symbols(vmie_os *os, uint32_t pid, const char *module, vmie_symbol_fn fn, void *user);

/* Names of the addresses of one address space. */
typedef struct vmie_names vmie_names;

/*
 * Makes the names of the kernel and its modules, with VMIE_KERNEL, or of a process, its libraries and the kernel.
 * Symbols are read when an address or a name first needs them. It does not notice modules that come later.
 *
 * Returns a handle to be freed with vmie_names_free(), or NULL: VMIE_E_NOT_FOUND for no such process, VMIE_E_OS.
 */
vmie_names *vmie_names_make(vmie_os *os, uint32_t pid);

/* Frees a handle. NULL is nothing to free. */
void vmie_names_free(vmie_names *names);

/*
 * Writes the name of an address to `buf`: "symbol+0x10" in the kernel, "module!symbol+0x10" elsewhere,
 * "module+0x1234" where no symbol covers it. At most `size` bytes are written, the last one a NUL; with `size` 0 `buf` may be NULL.
 *
 * Returns the length of the whole name without the NUL, as snprintf() does, or -1: VMIE_E_NOT_FOUND for an address outside of all
 * images.
 */
int vmie_name_of(vmie_names *names, uint64_t va, char *buf, size_t size);

/*
 * The address that a name stands for: the same forms, also a module alone, and a symbol alone that stands for one address.
 *
 * Returns 0, or -1: VMIE_E_NOT_FOUND, whose text says why, also when the name stands for several addresses.
 */
int vmie_address_of(vmie_names *names, const char *name, uint64_t *va);

#ifdef __cplusplus
}
#endif

#endif
