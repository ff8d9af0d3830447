// Shared by the lab's guest programs: how a program states the truth about itself, and how it
// stays busy in a way that can be recognised from outside.
//
// A program writes its statements to /lab/out/NAME, one a line, words separated by one blank:
//
//   program NAME                    what is running
//   pid N
//   symbol NAME ADDR                a function or object, by the name it has in the ELF file
//   value NAME ADDR TYPE VALUE      constant from READY on; TYPE is u8 u16 u32 u64 i32 i64 f32 f64
//                                   ptr ptr32 ascii utf16 (text as hex bytes, without
//                                   terminator)
//   tick NAME ADDR TYPE             changes all the time, never goes down
//   path NAME BASE OFF,OFF,.. ADDR  start at BASE; for each OFF load the pointer there and add OFF
//   size CLASS N                    size of a class
//   vtable CLASS ADDR               what the first qword of its instances holds
//   area NAME ADDR LEN              a mapping made for a purpose, LEN in bytes
//   busy PID                        that process calls spin() now and then
//   note TEXT
//
// After `ready` nothing is allocated, mapped or freed any more: the layout is frozen.
#pragma once

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace lab {

// Recognised from outside in R14 while R15 holds the process's pid: CPL 3 and these two registers
// say beyond doubt whose page tables CR3 points at.
constexpr uint64_t SPIN_MAGIC = 0x564d49454c414221;  // "VMIELAB!"

// Stays in user mode for `rounds` rounds of a two-instruction loop.
inline void spin(uint64_t pid, uint64_t rounds) {
    asm volatile(
        "movabs %[magic], %%r14\n\t"
        "mov %[pid], %%r15\n"
        "1:\tdec %[rounds]\n\t"
        "jnz 1b\n\t"
        "xor %%r14d, %%r14d\n\t"
        : [rounds] "+r"(rounds)
        : [magic] "i"(SPIN_MAGIC), [pid] "r"(pid)
        : "r14", "r15", "cc");
}

// Where there are NUMA nodes the kernel makes pages of programs not present now and then, to see whether
// they are used. Not those of a program with a memory policy of its own, and its answers and QEMU's about
// what the CPU sees can be compared.
inline void keep_present() {
    const unsigned long first = 1;
    // linux/mempolicy.h: MPOL_BIND. Kernels without NUMA do not know it.
    syscall(SYS_set_mempolicy, 2, &first, 8 * sizeof first);
}

inline void nap(long milliseconds) {
    timespec t{milliseconds / 1000, (milliseconds % 1000) * 1000000};
    nanosleep(&t, nullptr);
}

// One program's statements. Written in one go at `ready`, so a reader never sees half of them.
class Truth {
public:
    Truth(const char* name) : name_(name) {
        line("program %s", name);
        line("pid %d", static_cast<int>(getpid()));
        line("busy %d", static_cast<int>(getpid()));
    }

    template <typename... Args> void line(const char* format, Args... args) {
        char text[1024];
        snprintf(text, sizeof text, format, args...);
        text_ += text;
        text_ += '\n';
    }

    void symbol(const char* name, const void* at) { line("symbol %s %p", name, at); }
    void vtable(const char* klass, const void* instance, size_t size) {
        line("vtable %s %p", klass, *static_cast<const void* const*>(instance));
        line("size %s %zu", klass, size);
    }

    void value(const char* name, const uint8_t* at) { integer(name, at, "u8", *at); }
    void value(const char* name, const uint16_t* at) { integer(name, at, "u16", *at); }
    void value(const char* name, const uint32_t* at) { integer(name, at, "u32", *at); }
    void value(const char* name, const uint64_t* at) { integer(name, at, "u64", *at); }
    void value(const char* name, const int32_t* at) {
        line("value %s %p i32 %" PRId32, name, static_cast<const void*>(at), *at);
    }
    void value(const char* name, const int64_t* at) {
        line("value %s %p i64 %" PRId64, name, static_cast<const void*>(at), *at);
    }
    // 17 significant digits: reading the text back gives the same bits.
    void value(const char* name, const float* at) {
        line("value %s %p f32 %.9g", name, static_cast<const void*>(at), static_cast<double>(*at));
    }
    void value(const char* name, const double* at) {
        line("value %s %p f64 %.17g", name, static_cast<const void*>(at), *at);
    }
    template <typename T> void value(const char* name, T* const* at) {
        line("value %s %p ptr %p", name, static_cast<const void*>(at),
             static_cast<const void*>(*at));
    }
    void ascii(const char* name, const char* at) { bytes(name, "ascii", at, strlen(at)); }
    void utf16(const char* name, const char16_t* at) {
        bytes(name, "utf16", at, 2 * std::u16string_view(at).size());
    }

    void tick(const char* name, const uint64_t* at) { tick(name, at, "u64"); }
    void tick(const char* name, const uint32_t* at) { tick(name, at, "u32"); }
    void tick(const char* name, const float* at) { tick(name, at, "f32"); }
    void tick(const char* name, const double* at) { tick(name, at, "f64"); }

    void ready() {
        line("ready");
        std::string path = std::string("/lab/out/") + name_;
        std::string draft = path + ".draft";
        FILE* out = fopen(draft.c_str(), "w");
        if (!out || fwrite(text_.data(), 1, text_.size(), out) != text_.size() || fclose(out) ||
            rename(draft.c_str(), path.c_str())) {
            perror(path.c_str());
            exit(1);
        }
        // Give the memory back now: the layout is frozen from here on.
        std::string().swap(text_);
    }

private:
    void integer(const char* name, const void* at, const char* type, uint64_t value) {
        line("value %s %p %s %" PRIu64, name, at, type, value);
    }
    void tick(const char* name, const void* at, const char* type) {
        line("tick %s %p %s", name, at, type);
    }
    void bytes(const char* name, const char* type, const void* at, size_t len) {
        std::string hex;
        for (size_t i = 0; i < len; i++) {
            char two[3];
            snprintf(two, sizeof two, "%02x", static_cast<const unsigned char*>(at)[i]);
            hex += two;
        }
        line("value %s %p %s %s", name, at, type, hex.c_str());
    }

    const char* name_;
    std::string text_;
};

}  // namespace lab
