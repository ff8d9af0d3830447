/*
 * pmap.h: who points where in an address space, how something is reached from a fixed base, and what an object is
 * made of.
 *
 * A pointer is a word in memory whose value is the address of something mapped; nothing else is known about it, and
 * some are numbers that happen to look like one. A pmap holds all of them after one sweep. The pointers to a virtual
 * table are in the instances of its class, those to a text are in its users.
 *
 * The conventions are those of memmodel.h. A pmap is of one moment: to see one of a running guest, let it stand still
 * while pmap_build() runs: vmie_pause().
 */
#ifndef VMIE_PMAP_H
#define VMIE_PMAP_H

#include <memmodel.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The map --------------------------------------------------------------------------------------- */

/*
 * All pointers of a space at one moment. It does not depend on the vmie_mem that it was built of, and never changes:
 * any number of threads may ask one at once. It takes less than ten bytes a pointer.
 */
typedef struct pmap pmap;

/* Addresses from `lo` to `hi`, both included. */
typedef struct pmap_range {
    uint64_t lo;
    uint64_t hi;
} pmap_range;

/* What counts as a pointer, and where to look. All of it 0 is what is usual. */
typedef struct pmap_options {
    pmap_range range;   /* pointers lead into it and stand in it; both 0: the whole space */
    pmap_range from;    /* where they stand, if that is only a part of `range`; both 0: all of it */
    uint64_t max_edges; /* building fails beyond so many pointers, up to 32 bytes each; 0: 2^28 */
    uint32_t prot_all;  /* where they stand allows all of these VMIE_PROT_ bits; they may lead anywhere */
    uint32_t width;     /* bytes of a pointer, 4 or 8; 0: as the program has them */
    uint32_t align;     /* they stand at multiples of 1, 2, 4 or 8, no more than the width; 0: of the width */
    uint32_t reserved;  /* 0 */
} pmap_options;

/*
 * Builds the map of what is in memory now. `options` NULL is all 0. Costs one sweep over the memory and a sort.
 *
 * With `width` 0, the pointers of a process's user-space range are as wide as its program has them, if the handle knows:
 * because vmie_os_find() of os.h has found its operating system, or because it is a snapshot that says so. All others
 * have 4 bytes with the paging modes x86 and PAE, else 8. A map has pointers of one width: where `from` reaches
 * from a 32-bit program's half into the kernel's, those of the program.
 *
 * Returns a map to be freed with pmap_free(), or NULL: VMIE_E_ARGUMENT, VMIE_E_PAGING, VMIE_E_LIMIT when there is too
 * much memory or there are too many pointers, VMIE_E_UNREADABLE when nothing could be looked at. Where only a part
 * could be looked at, vmie_last_coverage() tells: here, and behind everything that the map is asked.
 */
pmap *pmap_build(vmie_mem *m, uintptr_t cr3, const pmap_options *options);

/* Frees a map. NULL is nothing to free. */
void pmap_free(pmap *p);

/* How many pointers there are, or -1 when `p` is NULL. */
int64_t pmap_count(const pmap *p);

/*
 * With which options a map was built, nothing left 0 that stands for something else: ranges are what they are,
 * `max_edges` is 0. Of a file that not this library wrote, `from` and `prot_all` are not known, and are those of all
 * of `range`. Returns 0 or -1.
 */
int pmap_get_options(const pmap *p, pmap_options *out);

/* A pointer. */
typedef struct pmap_edge {
    uint64_t at;    /* the address it stands at */
    uint64_t value; /* the address it holds */
} pmap_edge;

/*
 * Lists the pointers that lead into [lo, hi], by ascending `value`, then by ascending `at`. With lo = hi, who
 * points exactly there. Returns the total or -1. Costs less than a microsecond, and nothing to speak of for each
 * pointer; with `out` NULL they are counted without being looked at.
 */
int pmap_referrers(const pmap *p, uint64_t lo, uint64_t hi, pmap_edge *out, int max);

/* Lists the pointers that stand in [lo, hi] (begin there), by ascending `at`. Returns the total or -1. */
int pmap_pointees(const pmap *p, uint64_t lo, uint64_t hi, pmap_edge *out, int max);

/*
 * Writes a map to a file. It appears when it is whole: there is either all of it or what was there before. `path`
 * is in the encoding of the file system. Returns 0 or -1: VMIE_E_IO.
 */
int pmap_save(const pmap *p, const char *path);

/*
 * Opens a map that pmap_save() wrote, of the space at `cr3`, and sees to it that it is of this space: the same
 * addresses are mapped, and of 64 pages spread over them all have the same content. A space in which little
 * has changed since may pass. The file must not be changed while the map is open.
 *
 * Maps of virtual memory that `vmie refs --save` wrote open as well where they are of the whole space or of a half of
 * it, and `vmie refs --index` opens those of this library.
 *
 * Returns a map to be freed with pmap_free(), or NULL: VMIE_E_OPEN when the file cannot be read, is no map, was cut or
 * damaged, or is of another memory, as the text says; VMIE_E_ARGUMENT; VMIE_E_PAGING.
 */
pmap *pmap_open(vmie_mem *m, uintptr_t cr3, const char *path);

/* ---- Paths ----------------------------------------------------------------------------------------- */

/* The most pointers that a path follows, and the most offsets that it has: one more, when it begins with a value. */
enum { PMAP_MAX_DEPTH = 31, PMAP_MAX_OFFSETS = 32 };

/* Where a path begins. */
enum {
    PMAP_BASE_PLACE = 0, /* at a place that holds the first pointer: [[base] + offsets[0]] + offsets[1] ... = target */
    PMAP_BASE_VALUE = 1  /* with the first pointer itself: [[base + offsets[0]] + offsets[1]] ... = target */
};

/* A chain of pointers. 272 bytes. */
typedef struct pmap_path {
    uint64_t base;
    uint32_t kind;  /* PMAP_BASE_ */
    uint32_t count; /* how many offsets there are, 1 or more; those behind are 0 */
    int64_t offsets[PMAP_MAX_OFFSETS]; /* in bytes */
} pmap_path;

enum { PMAP_NO_LOOPS = 1 /* no path comes to a place twice */ };

/* Which paths are looked for. */
typedef struct pmap_search {
    uint64_t target;
    const pmap_range *bases; /* every place in one of these ranges is a base: the data of a program, for one */
    const uint64_t *values;  /* pointers that are bases themselves: values of registers */
    int base_count;          /* how many `bases`, and how many `values`: at least one of either */
    int value_count;
    uint64_t max_offset; /* offsets are -back to max_offset, neither beyond INT64_MAX; 0x400 and 0 are usual */
    uint64_t back;
    uint64_t max_places; /* places that are kept meanwhile, 16 bytes each; 0: 2^26 */
    int depth;           /* follow 1 to PMAP_MAX_DEPTH pointers; 4 is usual */
    uint32_t flags;      /* PMAP_NO_LOOPS, or 0 */
} pmap_search;

/*
 * Lists the paths from the bases to the target: those that follow fewer pointers first, then by base, then by
 * offsets; those that begin with a value behind those that begin at a place.
 *
 * `reached`, if not NULL, gets the number of pointers up to which all paths were found: less than `depth` where
 * `max_places` did not do.
 *
 * There may be more paths than anybody can wait for, and all of them are counted, up to INT_MAX; for the first ones
 * alone use pmap_paths_each(). Returns the total, or -1: VMIE_E_ARGUMENT; VMIE_E_LIMIT when none was found and `reached`
 * is less than `depth`.
 */
int pmap_paths(const pmap *p, const pmap_search *search, pmap_path *out, int max, int *reached);

/* Gets a path, which lasts until it returns, and the caller's `user`. Not 0 ends the search. */
typedef int (*pmap_path_fn)(void *user, const pmap_path *path);

/*
 * The same, one path after another. Returns how many `each` got, up to INT_MAX, or -1 as above. vmie_last_coverage()
 * says `stopped` when `each` ended it; then `reached` says nothing about the paths behind.
 */
int pmap_paths_each(const pmap *p, const pmap_search *search, pmap_path_fn each, void *user, int *reached);

/* ---- Objects --------------------------------------------------------------------------------------- */

/* What a field is. */
enum {
    STRUCT_VTABLE = 1,            /* a pointer to a virtual table */
    STRUCT_FUNCTION = 2,          /* a pointer into code */
    STRUCT_OBJECT = 3,            /* a pointer to an object that begins with a virtual table */
    STRUCT_STRING = 4,            /* a pointer to text with a terminator */
    STRUCT_POINTER = 5,           /* a pointer to something else that is mapped */
    STRUCT_STD_STRING = 6,        /* std::string of libstdc++ */
    STRUCT_LIBCXX_STRING = 7,     /* std::string of libc++ */
    STRUCT_LIBCXX_ALT_STRING = 8, /* std::string of libc++ in its alternate layout */
    STRUCT_MSVC_STRING = 9,       /* std::string of Visual C++ */
    STRUCT_MSVC_WSTRING = 10,     /* std::wstring of Visual C++ */
    STRUCT_STD_VECTOR = 11,       /* std::vector */
    STRUCT_UTF8 = 12,             /* ASCII or UTF-8 text in place */
    STRUCT_UTF16 = 13,            /* UTF-16 text in place */
    STRUCT_FLOAT = 14,            /* a floating-point number of 32 bits */
    STRUCT_DOUBLE = 15,           /* a floating-point number of 64 bits */
    STRUCT_INTEGER = 16,          /* a small integer of 1, 2, 4 or 8 bytes */
    STRUCT_FLAGS = 17,            /* a few bits of a large number */
    STRUCT_UNKNOWN = 18,          /* bytes that look like nothing in particular */
    STRUCT_ZERO = 19,             /* zeros: padding, or a field that is zero */
    STRUCT_UNREADABLE = 20        /* bytes that could not be read */
};

/* What a field's value is, and where. */
enum {
    STRUCT_VALUE_NONE = 0,    /* there is none: zeros, or not read; `text` says which */
    STRUCT_VALUE_ADDRESS = 1, /* `number` */
    STRUCT_VALUE_INTEGER = 2, /* `number` as an int64_t */
    STRUCT_VALUE_BITS = 3,    /* `number` */
    STRUCT_VALUE_REAL = 4,    /* `real` */
    STRUCT_VALUE_TEXT = 5,    /* `text`, in quotes */
    STRUCT_VALUE_ROOM = 6     /* `number` bytes are in use, and there is room for `room` */
};

/* The texts of a field that did not fit: bits of `cut`. */
enum { STRUCT_CUT_TEXT = 1, STRUCT_CUT_DETAIL = 2, STRUCT_CUT_EVIDENCE = 4 };

/* Bytes of each text of a field, with its NUL. */
enum { STRUCT_TEXT_SIZE = 256 };

/*
 * A field of an object. 824 bytes. The texts are within: UTF-8 that ends with a NUL, cut between characters where it
 * would be longer. Bytes of the guest's in them may be control characters; a NUL among them is U+FFFD.
 */
typedef struct struct_field {
    uint64_t offset;     /* from the beginning of the object, in bytes */
    uint64_t len;        /* bytes, not zero */
    uint64_t number;     /* by `value`; else 0 */
    uint64_t room;       /* by `value`; else 0 */
    double real;         /* by `value`; else 0 */
    uint32_t kind;       /* STRUCT_ */
    uint32_t value;      /* STRUCT_VALUE_ */
    uint32_t confidence; /* how sure the kind is, 0 to 100 */
    uint32_t cut;        /* STRUCT_CUT_ bits */
    char text[STRUCT_TEXT_SIZE];     /* the value in words */
    char detail[STRUCT_TEXT_SIZE];   /* a class, a text that is pointed at, ...; may be empty */
    char evidence[STRUCT_TEXT_SIZE]; /* what speaks for it */
} struct_field;

/*
 * Lists the fields of the object of `len` bytes at `addr`, in order and without holes between them, guessed from
 * its bytes and from what its words point at. Pointers are as wide as pmap_build() says of 0. `len` is 1 to
 * 64 KiB; not more than `len` fields are told. vmie_last_coverage() is about the object's own bytes.
 *
 * Returns the total, or -1: VMIE_E_ARGUMENT; VMIE_E_LIMIT when `len` is more; VMIE_E_PAGING; VMIE_E_UNREADABLE when
 * none of its bytes could be read.
 */
int struct_dissect(vmie_mem *m, uintptr_t cr3, uint64_t addr, uint64_t len, struct_field *fields, int max);

/* The same with pointers of `width` bytes, 4 or 8, whatever is known. */
int struct_dissect_width(vmie_mem *m, uintptr_t cr3, uint64_t addr, uint64_t len, uint32_t width,
                         struct_field *fields, int max);

/* A kind in one word: "vtable", "std::string", ... Lasts for ever. NULL is for numbers that are no kind. */
const char *struct_kind_name(uint32_t kind);

#ifdef __cplusplus
}
#endif

#endif
