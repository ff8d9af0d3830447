// What the inhabitants of a lab guest share; and those that are in resident.cpp.
#pragma once

#include "lab.h"

#include <pthread.h>
#include <sys/mman.h>

namespace crowd {

using lab::Truth;

constexpr size_t PAGE = 4096;
constexpr size_t HUGE_PAGE = size_t{2} << 20;

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

[[noreturn]] void fail(const char* what);
unsigned char* map(size_t len, int prot, int flags, int fd = -1, off_t offset = 0);
unsigned char* map_anonymous(size_t len, int prot = PROT_READ | PROT_WRITE);

// Memory on a border of 2 MiB, of transparent huge pages where the kernel has them: real-time ones do not.
unsigned char* map_huge(size_t len, bool& has_huge);

void state_area(Truth& truth, const char* name, const void* at, size_t len);

// Begins each page with `NAME-NUMBER-marker`, the number in five digits, and states the area. In areas of
// 1 GiB only every 64th page is written to.
void mark(Truth& truth, const char* name, unsigned char* at, size_t len);

// Shows itself on a CPU for a moment.
void beat();
[[noreturn]] void stay();
void start_thread(void* (*run)(void*), const char* name);

// Until the witness has announced a guest that stands still.
void wait_until_announced();

bool has_two_nodes();

// Inhabitants with pages that are in memory, but not where the CPU would find them.
void prot_none(Truth& truth);
void numabal(Truth& truth);
void mover(Truth& truth);

}  // namespace crowd
