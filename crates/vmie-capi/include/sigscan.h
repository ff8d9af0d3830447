/*
 * sigscan.h: byte signatures, one and many. scan.h looks for them.
 *
 * Every syntax that people paste is read:
 *
 *   48 8B 05   488B05          bytes; spaces are optional
 *   0x48, 0x8B   48-8B         the same
 *   ??   ..   ?   .   *        any byte; a single one stands alone
 *   4?   ?8   4.               any byte with this half
 *   ~E8                        any byte but this one
 *   [4]   [2-6]                that many bytes of any value
 *   (E8 | E9 90)               one of these
 *   "text"   u"text"           text in UTF-8, in UTF-16
 *   { ... }   // ...           braces around the whole and comments, as in YARA
 *   \x48\x8B\x00 xx?           bytes as in C, then a mask
 *   48 8B 00 xx?               bytes without wildcards, then a mask
 *   48 8B 05 : FF F8 00        bytes, then for each the bits that count
 *   0x48, 0x8B 0b01            bytes with 0x, then a bit for each, that of the first one last
 *
 * Conventions: see memmodel.h.
 */
#ifndef VMIE_SIGSCAN_H
#define VMIE_SIGSCAN_H

#include "memmodel.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A signature. It does not change, and may be used from any number of threads at once. */
typedef struct vmie_sig vmie_sig;

/*
 * Signatures compiled to be found in one pass. It does not change, and may be used from any number of threads.
 *
 * X/Open's <signal.h> has a function of this name. Functions here say `struct sigset`, which never is in its way;
 * in C the short name can be left out by defining VMIE_NO_SIGSET before including this.
 */
struct sigset;
#if !defined __cplusplus && !defined VMIE_NO_SIGSET
typedef struct sigset sigset;
#endif

/*
 * Reads a signature from text in UTF-8.
 *
 * Returns a signature to be freed with sig_free(), or NULL: VMIE_E_SYNTAX, of which vmie_last_error_text() says
 * what was expected and vmie_last_error_column() where.
 */
vmie_sig *sig_parse(const char *text);

/* Frees a signature; sets that were compiled are their own. NULL is nothing to free. */
void sig_free(vmie_sig *sig);

/* The signature in its canonical form, which parses back to the same. Lasts until sig_free(). NULL is an error. */
const char *sig_text(const vmie_sig *sig);

/* The fewest and the most bytes that a match has. At least 1, at most 16384; 0 is an error. */
uint32_t sig_min_len(const vmie_sig *sig);
uint32_t sig_max_len(const vmie_sig *sig);

/*
 * Reads and compiles `count` signatures. `names` may be NULL, and so may be each name in it; a name may be any
 * text in UTF-8. A signature without a name has "".
 *
 * `bad`, if not NULL, gets the index of the signature that does not parse, or -1.
 *
 * Returns a set to be freed with sigset_free(), or NULL: VMIE_E_SYNTAX as sig_parse(), VMIE_E_LIMIT when they are
 * too many (more than 8 million elements together), VMIE_E_ARGUMENT when there are none.
 */
struct sigset *sigset_compile(const char *const *texts, const char *const *names, int count, int *bad);

/* Frees a set. NULL is nothing to free. */
void sigset_free(struct sigset *set);

/* How many signatures there are, or -1 on bad input. */
int sigset_count(const struct sigset *set);

/* The name of a signature. Lasts until sigset_free(). NULL is an error: VMIE_E_ARGUMENT when there is no such index. */
const char *sigset_name(const struct sigset *set, int index);

#ifdef __cplusplus
}
#endif

#endif
