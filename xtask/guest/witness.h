// What the guest's witness is made of: frames to the host, reading files whole, a digest of what is stable. And what a scene adds to it
// (scene/truth.cpp), which the witness of other guests does not have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <sys/types.h>

namespace witness {

constexpr size_t MAX_PROCESSES = 512;
constexpr size_t MAX_FILE = 4 << 20;

// Files and texts are put together here.
extern char g_file[MAX_FILE];
extern char g_out[MAX_FILE];

struct Digest {
    uint64_t value = 0xcbf29ce484222325;  // FNV-1a
    void add(const void* at, size_t len) {
        for (size_t i = 0; i < len; i++) {
            value ^= static_cast<const unsigned char*>(at)[i];
            value *= 0x100000001b3;
        }
    }
    void add(const char* text) { add(text, strlen(text)); }
};

[[gnu::format(printf, 1, 2)]] void send_line(const char* format, ...);
void send_file(unsigned generation, const char* name, const void* at, size_t len);

// Reads a whole file; -1 when it cannot be opened or does not fit.
ssize_t slurp(const char* path, char* into, size_t room);

// Numeric entries of a directory such as /proc or /proc/N/task, ascending as the kernel lists them.
size_t list_numbers(const char* path, int* into, size_t room);

namespace scene {

// Before the first round.
void begin();

// Shows what is hidden, and hides it. What a round's digest covers is the same both ways.
void show();
void hide();

bool is_hidden(int pid);

// What is left of /proc/modules, or of a list of sockets, when that is taken out which is hidden now and then, or changes all the time.
void digest_modules(Digest& digest, const char* text);
void digest_sockets(Digest& digest, const char* text);

// Escapes what would end a line, as /proc/PID/maps does.
size_t escape(char* text, size_t len, size_t room);

// More of a process, of a thread, of the guest.
void visit_process(Digest& digest, int pid, unsigned generation);
void visit_thread(int pid, int tid, unsigned generation);
void visit_guest(Digest& digest, const int* pids, size_t count, unsigned generation);

}  // namespace scene

}  // namespace witness
