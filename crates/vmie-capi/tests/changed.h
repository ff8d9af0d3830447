/* The bare guest's image with changes: what the tests of moments have in common. */
#ifndef CHANGED_H
#define CHANGED_H

#include "check.h"

static unsigned char *image;
static size_t image_len;

static inline void load(const char *path)
{
    FILE *in = fopen(path, "rb");
    CHECK(in != NULL && fseek(in, 0, SEEK_END) == 0);
    image_len = (size_t)ftell(in);
    rewind(in);
    image = malloc(image_len);
    CHECK(image != NULL && fread(image, 1, image_len, in) == image_len);
    fclose(in);
}

static inline uint64_t field(size_t at, size_t size)
{
    uint64_t value = 0;
    CHECK(at + size <= image_len);
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)image[at + i] << (8 * i);
    return value;
}

/* Where a physical address is in the image, an ELF core. */
static inline unsigned char *at_gpa(uint64_t gpa)
{
    uint64_t table = field(32, 8), size = field(54, 2), count = field(56, 2);
    for (uint64_t i = 0; i < count; i++) {
        size_t at = (size_t)(table + i * size);
        uint64_t offset = field(at + 8, 8), start = field(at + 24, 8), len = field(at + 32, 8);
        if (field(at, 4) == 1 && gpa >= start && gpa - start < len)
            return image + offset + (gpa - start);
    }
    CHECK(!"the address is in the image");
    return NULL;
}

static inline unsigned char *at_va(vmie_mem *m, uint64_t va)
{
    vmie_mapping mapping;
    CHECK(vmie_translate(m, BARE_CR3, va, &mapping) == 0);
    return at_gpa(mapping.gpa);
}

/* Opens what the image is now. */
static inline vmie_mem *reopened(const char *dir)
{
    static int number_of = 0;
    char path[4096];
    snprintf(path, sizeof path, "%s/changed%d", dir, number_of++ % 2);
    /* An image that is open must not be written to. */
    remove(path);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL && fwrite(image, 1, image_len, out) == image_len);
    CHECK(fclose(out) == 0);
    return open_guest(path, "-");
}

#endif
