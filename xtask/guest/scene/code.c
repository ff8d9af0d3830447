/* Code where none should be, and code that is not what its file says: in anonymous memory of either kind of protection, on the stack and the
   heap, in a library from memory, in a private copy of a page of the C library, written by the process itself or by another one. */
#include "scene.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* A loop around pause(2): `mov $34, %eax; syscall; jmp` to the beginning. Whoever is in it sleeps. */
static const unsigned char LOOP[] = {0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7};

static const char *hexadecimal(const void *at, size_t len) {
    static char slots[4][2 * 64 + 1];
    static unsigned next;
    char *out = slots[next++ % 4];
    for (size_t i = 0; i < len && i < 64; i++) sprintf(out + 2 * i, "%02x", ((const unsigned char *)at)[i]);
    return out;
}

static void *anonymous(size_t len, int prot) {
    void *at = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    return at;
}

/* Names the loop before it goes there. */
static void *thread_in(void *loop) {
    prctl(PR_SET_NAME, "in rwx");
    ((void (*)(void))loop)();
    return NULL;
}

static void state_code(const char *kind, const void *at, size_t len, const char *prot) {
    fact("code", "pid=%d kind=%s va=%p len=%#zx prot=%s bytes=%s", getpid(), kind, at, len, prot, hexadecimal(at, sizeof LOOP));
}

static void writable_code(void) {
    unsigned char *at = anonymous(4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    memset(at, 0x90, PAGE);
    memcpy(at + PAGE, LOOP, sizeof LOOP);
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_in, at + PAGE)) die("pthread_create");
    nap(50);
    fact("code", "pid=%d kind=rwx va=%p len=%#lx prot=rwxp bytes=%s thread-in=%p", getpid(), (void *)at, 4 * PAGE, hexadecimal(at + PAGE, sizeof LOOP),
         (void *)(at + PAGE));
}

/* Nobody could write to it any more: the usual disguise. */
static void protected_code(void) {
    unsigned char *at = anonymous(2 * PAGE, PROT_READ | PROT_WRITE);
    memcpy(at, LOOP, sizeof LOOP);
    if (mprotect(at, 2 * PAGE, PROT_READ | PROT_EXEC)) die("mprotect");
    state_code("rx", at, 2 * PAGE, "r-xp");
    /* Executable and readable by nobody who asks nicely. */
    at = anonymous(PAGE, PROT_READ | PROT_WRITE);
    memcpy(at, LOOP, sizeof LOOP);
    fact("code", "pid=%d kind=x-only va=%p len=%#lx prot=--xp bytes=%s", getpid(), (void *)at, PAGE, hexadecimal(at, sizeof LOOP));
    if (mprotect(at, PAGE, PROT_EXEC)) die("mprotect");
}

/* A program that was copied into memory and not run from there, with and without the right to execute; and one whose magic was wiped. */
static void elf_in_memory(void) {
    static const char *const PROTECTION[] = {"rw-p", "r-xp", "r-xp"};
    const int fd = open("/lab/scene", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 3; i++) {
        unsigned char *at = anonymous(4 * PAGE, PROT_READ | PROT_WRITE);
        if (fd < 0 || pread(fd, at, 4 * PAGE, 0) != (ssize_t)(4 * PAGE)) die("pread");
        if (i == 2) memset(at, 0, 4);
        if (i > 0 && mprotect(at, 4 * PAGE, PROT_READ | PROT_EXEC)) die("mprotect");
        state_code(i == 2 ? "elf-without-magic" : "elf", at, 4 * PAGE, PROTECTION[i]);
    }
    close(fd);
}

static void on_stack_and_heap(void) {
    unsigned char local[64];
    memcpy(local, LOOP, sizeof LOOP);
    const uintptr_t page = (uintptr_t)local & ~(PAGE - 1);
    if (mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN)) {
        not_planted("executable-stack");
    } else {
        state_code("stack", local, sizeof LOOP, "rwxp");
    }
    unsigned char *top = sbrk((intptr_t)(4 * PAGE));
    if (top == (void *)-1) die("sbrk");
    unsigned char *whole = (unsigned char *)(((uintptr_t)top + PAGE - 1) & ~(PAGE - 1));
    memcpy(whole, LOOP, sizeof LOOP);
    if (mprotect(whole, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC)) die("mprotect");
    state_code("heap", whole, PAGE, "rwxp");
    /* Below this frame the stack must stay as it is. */
    ready();
    rest();
}

/* A library that never was a file. */
static void library_from_memory(void) {
    const int fd = (int)syscall(SYS_memfd_create, "libmetrics", 0);
    unsigned char block[PAGE];
    if (fd < 0) {
        not_planted("memfd-library");
        return;
    }
    const int from = open("/lib/lab-hook.so", O_RDONLY | O_CLOEXEC);
    ssize_t len;
    while ((len = read(from, block, sizeof block)) > 0)
        if (write(fd, block, (size_t)len) != len) die("write");
    close(from);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!dlopen(path, RTLD_NOW)) die("dlopen");
    fact("library", "pid=%d kind=memfd inode=%llu", getpid(), inode_of(fd));
    close(fd);
    /* And a file that is mapped to be written and executed at once. */
    const int file = open("/data/scratch.bin", O_RDWR | O_CREAT | O_CLOEXEC, 0700);
    if (file < 0 || ftruncate(file, (off_t)PAGE)) die("scratch.bin");
    unsigned char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) die("mmap");
    memcpy(at, LOOP, sizeof LOOP);
    state_code("shared-file-rwx", at, PAGE, "rwxs");
    close(file);
}

static void *function(const char *name) {
    void *at = dlsym(RTLD_DEFAULT, name);
    if (!at) die(name);
    return at;
}

static void state_patch(pid_t pid, const char *by, const char *name, const void *at, const void *before, const void *after, size_t len) {
    fact("patch", "pid=%d by=%s function=%s va=%p len=%zu before=%s after=%s", pid, by, name, at, len, hexadecimal(before, len),
         hexadecimal(after, len));
}

/* `mov $NUMBER, %eax; ret` */
static const unsigned char ANSWER[] = {0xb8, 42, 0, 0, 0, 0xc3};

/* The process changes a function of the C library, and the page's protection back as it was. */
static void patches_itself(void) {
    unsigned char before[sizeof ANSWER];
    unsigned char *at = function("getppid");
    unsigned char *page = (unsigned char *)((uintptr_t)at & ~(PAGE - 1));
    memcpy(before, at, sizeof before);
    /* Executable all the time: the function that changes protections may be on the same page. */
    if (mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC)) die("mprotect");
    memcpy(at, ANSWER, sizeof ANSWER);
    if (mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC)) die("mprotect");
    state_patch(getpid(), "self", "getppid", at, before, ANSWER, sizeof ANSWER);
    if (getppid() != 42) die("the patch does nothing");
}

static void sleep_on(void *unused) {
    (void)unused;
    rest();
}

/* A debugger's way: the kernel writes to a page that its process may not write to. The other one, which does not trace, writes so too. */
static void patches_others(void) {
    const pid_t child = spawn("poked", sleep_on, NULL);
    int status;
    nap(50);
    unsigned char before[8], after[8];
    unsigned char *at = function("getuid");
    memcpy(before, at, 8);
    memcpy(after, at, 8);
    memcpy(after, ANSWER, sizeof ANSWER);
    uint64_t word;
    memcpy(&word, after, 8);
    if (ptrace(PTRACE_ATTACH, child, NULL, NULL) || waitpid(child, &status, 0) != child || ptrace(PTRACE_POKETEXT, child, at, word) ||
        ptrace(PTRACE_DETACH, child, NULL, NULL)) {
        not_planted("patch-by-ptrace");
    } else {
        state_patch(child, "ptrace", "getuid", at, before, after, 8);
    }
    at = function("geteuid");
    memcpy(before, at, 8);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", child);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, ANSWER, sizeof ANSWER, (off_t)(uintptr_t)at) != sizeof ANSWER)
        not_planted("patch-by-mem");
    else
        state_patch(child, "proc-mem", "geteuid", at, before, ANSWER, sizeof ANSWER);
    close(fd);
}

const struct actor CODE[] = {{"rwx", writable_code},
                             {"rx", protected_code},
                             {"elf-in-memory", elf_in_memory},
                             {"stack-and-heap", on_stack_and_heap},
                             {"memfd-library", library_from_memory},
                             {"patches-itself", patches_itself},
                             {"patches-others", patches_others},
                             {0}};
