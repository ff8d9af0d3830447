/* Files in the page cache, of which the guest says what is in it: whole, in part, never read, not yet written, with holes, under two names,
   in large pages, swapped out. The host can recover them and compare. */
#include "scene.h"

#include <sys/mount.h>
#include <sys/sysmacros.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* Which pages of a file are in memory, as `0-3,7`; `-` for none. Does not touch them. */
static void cached_ranges(int fd, size_t len, char *text, size_t room) {
    const size_t pages = (len + PAGE - 1) / PAGE;
    unsigned char *is_in = calloc(pages + 1, 1);
    void *at = mmap(NULL, pages * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    if (!is_in || at == MAP_FAILED || mincore(at, pages * PAGE, is_in)) die("mincore");
    munmap(at, pages * PAGE);
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < pages; i++) {
        if (!(is_in[i] & 1)) continue;
        const size_t first = i;
        while (i + 1 < pages && is_in[i + 1] & 1) i++;
        const char *comma = used ? "," : "";
        const int len = first == i ? snprintf(text + used, room - used, "%s%zu", comma, i)
                                   : snprintf(text + used, room - used, "%s%zu-%zu", comma, first, i);
        used += (size_t)len;
        if (used + 64 > room) die("too many ranges");
    }
    if (!used) strcpy(text, "-");
    free(is_in);
}

/* `content` is what the file holds: to be hashed without its being read. */
static void state(const char *kind, const char *path, const void *content, size_t len) {
    char ranges[8192], digest[65];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (fd < 0 || fstat(fd, &about)) die(path);
    if ((size_t)about.st_size != len) die("a file of another size");
    cached_ranges(fd, len, ranges, sizeof ranges);
    close(fd);
    sha256(content, len, digest);
    fact("cached", "kind=%s path=%s inode=%llu device=%u:%u size=%zu links=%u sha256=%s modified=%lld.%09ld pages=%s", kind, escaped_text(path),
         (unsigned long long)about.st_ino, major(about.st_dev), minor(about.st_dev), len, (unsigned)about.st_nlink, digest,
         (long long)about.st_mtim.tv_sec, about.st_mtim.tv_nsec, ranges);
}

static unsigned char *content_of(size_t len, uint64_t seed) {
    unsigned char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    fill(at, len, seed);
    return at;
}

static void make(const char *path, const void *at, size_t len) {
    if (!write_file(path, at, len)) die(path);
}

static void in_memory(void) {
    unsigned char *whole = content_of(5 * PAGE + 123, 1);
    mkdir("/mnt/tmp", 0755);
    if (mount("scene-tmp", "/mnt/tmp", "tmpfs", 0, "size=16m,mode=755")) die("tmpfs");
    mkdir("/mnt/tmp/a folder", 0755);
    make("/mnt/tmp/a folder/small.txt", "fewer bytes than a page\n", 24);
    state("small", "/mnt/tmp/a folder/small.txt", "fewer bytes than a page\n", 24);
    make("/mnt/tmp/empty.txt", "", 0);
    fact("cached", "kind=empty path=/mnt/tmp/empty.txt size=0 links=1 pages=-");

    make("/mnt/tmp/one.bin", whole, 5 * PAGE + 123);
    if (link("/mnt/tmp/one.bin", "/mnt/tmp/a folder/another name.bin")) die("link");
    state("hard-link", "/mnt/tmp/one.bin", whole, 5 * PAGE + 123);
    state("hard-link", "/mnt/tmp/a folder/another name.bin", whole, 5 * PAGE + 123);
    if (symlink("a folder/small.txt", "/mnt/tmp/leads there")) die("symlink");

    /* Data on pages 0, 5 and 300 only; ends within a hole. */
    const size_t len = 400 * PAGE + 10;
    unsigned char *sparse = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int fd = open("/mnt/tmp/sparse.bin", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || sparse == MAP_FAILED || ftruncate(fd, (off_t)len)) die("sparse.bin");
    for (const size_t *page = (const size_t[]){0, 5, 300, ~0ul}; *page != ~0ul; page++) {
        fill(sparse + *page * PAGE, PAGE, *page + 77);
        if (pwrite(fd, sparse + *page * PAGE, PAGE, (off_t)(*page * PAGE)) != PAGE) die("pwrite");
    }
    close(fd);
    state("sparse", "/mnt/tmp/sparse.bin", sparse, len);
    munmap(sparse, len);

    /* Written through a mapping, then swapped out where there is swap. */
    unsigned char *swapped = content_of(16 * PAGE, 5);
    make("/mnt/tmp/swapped.bin", swapped, 16 * PAGE);
    const int out = open("/mnt/tmp/swapped.bin", O_RDWR | O_CLOEXEC);
    void *at = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, out, 0);
    if (out < 0 || at == MAP_FAILED) die("swapped.bin");
    for (size_t page = 4; page < 12; page++) ((volatile unsigned char *)at)[page * PAGE] = swapped[page * PAGE];
    if (madvise((char *)at + 4 * PAGE, 8 * PAGE, MADV_PAGEOUT)) not_planted("swapped-file");
    munmap(at, 16 * PAGE);
    close(out);
    state("swapped", "/mnt/tmp/swapped.bin", swapped, 16 * PAGE);

    mkdir("/mnt/huge", 0755);
    if (mount("scene-huge", "/mnt/huge", "tmpfs", 0, "huge=always,size=32m")) {
        not_planted("huge-tmpfs");
        return;
    }
    const size_t large = (size_t)5 << 20;
    unsigned char *huge = content_of(large, 9);
    make("/mnt/huge/large.bin", huge, large);
    state("large-folios", "/mnt/huge/large.bin", huge, large);
    munmap(huge, large);
}

static void drop(const char *path, bool whole) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) die(path);
    if (!whole) {
        /* Pages 10 to 12 and 200, without any read ahead. */
        static char page[PAGE];
        posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
        for (const int *at = (const int[]){10, 11, 12, 200, -1}; *at >= 0; at++)
            if (pread(fd, page, PAGE, (off_t)*at * (off_t)PAGE) != PAGE) die("pread");
    }
    close(fd);
}

/* On a file system that has a disk, or a file that stands for one: what is not cached is not in memory. */
static void on_disk(void) {
    if (!has_line("/proc/self/mounts", "/dev/loop0 /disk ")) {
        errno = ENODEV;
        not_planted("disk");
        return;
    }
    const size_t len = 256 * PAGE;
    unsigned char *content = content_of(len, 21);
    make("/disk/partial.bin", content, len);
    drop("/disk/partial.bin", false);
    state("partial", "/disk/partial.bin", content, len);
    fill(content, len, 22);
    make("/disk/never read.bin", content, 40 * PAGE);
    drop("/disk/never read.bin", true);
    state("absent", "/disk/never read.bin", content, 40 * PAGE);
    fill(content, len, 23);
    make("/disk/clean.bin", content, 30 * PAGE + 7);
    const int fd = open("/disk/clean.bin", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd)) die("clean.bin");
    close(fd);
    state("clean", "/disk/clean.bin", content, 30 * PAGE + 7);
    fill(content, len, 24);
    make("/disk/dirty.bin", content, 20 * PAGE + 1);
    state("dirty", "/disk/dirty.bin", content, 20 * PAGE + 1);
    munmap(content, len);
}

static void cache(void) {
    on_disk();
    in_memory();
}

const struct actor CACHE[] = {{"cache", cache}, {0}};
