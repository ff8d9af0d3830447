/* What the test programs have in common. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <memmodel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bare.h" /* made by xtask */

/* Ends the program when something does not hold, with the library's last error. */
#define CHECK(holds)                                                                          \
    do {                                                                                      \
        if (!(holds)) {                                                                       \
            fprintf(stderr, "%s:%d: does not hold: %s\nlast error %d: %s\n", __FILE__, __LINE__, \
                    #holds, vmie_last_error(), vmie_last_error_text());                       \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)

/* That a call fails, with this code and with words. */
#define FAILS(call, failure, error)                      \
    do {                                                 \
        CHECK((call) == (failure));                      \
        CHECK(vmie_last_error() == (error));             \
        CHECK(strlen(vmie_last_error_text()) > 0);       \
    } while (0)

/* Opens a guest as the test programs are told of it: a source, and a layout or "-". */
static inline vmie_mem *open_guest(const char *source, const char *layout)
{
    vmie_mem *m = vmie_open_layout(source, strcmp(layout, "-") == 0 ? NULL : layout);
    CHECK(m != NULL);
    return m;
}

static inline uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);
    CHECK(*text != 0 && *end == 0);
    return value;
}

/* Protection as the command shows it. */
static inline const char *prot_text(uint32_t prot)
{
    static const char *const TEXT[8] = {"---", "r--", "-w-", "rw-", "--x", "r-x", "-wx", "rwx"};
    return TEXT[prot & 7];
}

static inline const char *user_text(uint32_t prot)
{
    return prot & VMIE_PROT_USER ? "true" : "false";
}

/* Room for a list of `count` elements, at least one; to be freed. */
static inline void *room(int count, size_t size)
{
    void *list = calloc(count > 0 ? (size_t)count : 1, size);
    CHECK(list != NULL);
    return list;
}

#endif
