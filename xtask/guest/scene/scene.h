/* Shared by the actors of a scene: a guest in which everything is planted that a responder asks about.

   `scene KIND` becomes one actor, plants its things, states them as facts, and rests. A fact is a line

       KIND NAME=VALUE NAME=VALUE ...

   in /lab/out/scene.ACTOR. Numbers are decimal, addresses and masks have 0x before them, and of a text each byte that is a
   blank, a control, '%', or not ASCII is written as %XX. What a kernel does not allow is a fact too: `not-planted what=W why=Y`.
   The host's reader is crates/vmie-lab/src/scene.rs. */
#pragma once

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul

/* States a fact; `format` makes the text behind its kind. */
__attribute__((format(printf, 2, 3))) void fact(const char *kind, const char *format, ...);

/* A thing of which the kernel does not allow to be planted, with errno as the reason. */
void not_planted(const char *what);

/* As text stands in facts. The result is good until the eighth call after this one. */
const char *escaped(const void *text, size_t len);
const char *escaped_text(const char *text);

/* Hands the facts out. From here on the actor does nothing that changes memory. */
void ready(void);

/* Facts of a process that a fork made belong to the actor too: the child forgets what it inherited, and the parent
   states what there is to say of both. */
void forget_facts(void);

_Noreturn void die(const char *what);

/* Sleeps for ever. */
_Noreturn void rest(void);

void nap(long milliseconds);

/* Waits until a file is there. */
void await(const char *path);

/* Forks; the child takes the name and goes on in `run`, which must not return. */
pid_t spawn(const char *name, void (*run)(void *), void *argument);

/* Writes a short text to a file that is there, or is made. False with errno when that does not work. */
bool write_text(const char *path, const char *text);
bool write_file(const char *path, const void *at, size_t len);

unsigned long long inode_of(int fd);

/* The same bytes for the same seed: neither zeros nor anything that compresses. */
void fill(void *at, size_t len, uint64_t seed);

/* SHA-256 (FIPS 180-4) as 64 hexadecimal digits. */
void sha256(const void *at, size_t len, char text[65]);

/* Waits until a condition on a file's content holds, for at most ten seconds. */
bool has_line(const char *path, const char *prefix);

struct actor {
    const char *name;
    void (*become)(void);
};

/* Each file of actors ends with its list, the last of which has no name. */
extern const struct actor FILES[], CACHE[], NET[], NETNS[], CREDS[], THREADS[], STATES[], IDENTITY[], ENVIRONMENT[], CODE[],
    CONTAINER[], SHELL[], HIDDEN[], BPF[];

/* What actors start copies of this program as. */
extern const struct actor RESTING, TITLE_WRITER;
