/* os.h: wrongly used, rightly used, and what it says of a guest. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <os.h>
#include <pthread.h>

_Static_assert(sizeof(vmie_process) == 128, "as documented");
_Static_assert(sizeof(vmie_module) == 680, "as documented");

static int ignore(const vmie_symbol *symbol, void *user)
{
    (void)symbol;
    (void)user;
    return 0;
}

static void nulls(void)
{
    vmie_process process;
    vmie_module module;
    uint64_t va;
    char buf[8];
    FAILS(vmie_os_find(NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(vmie_os_kind(NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(vmie_os_version(NULL), NULL, VMIE_E_ARGUMENT);
    FAILS(vmie_os_kernel_cr3(NULL, &va), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_processes(NULL, &process, 1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_modules(NULL, VMIE_KERNEL, &module, 1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_symbols(NULL, VMIE_KERNEL, NULL, ignore, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_names_make(NULL, VMIE_KERNEL), NULL, VMIE_E_ARGUMENT);
    FAILS(vmie_name_of(NULL, 0, buf, sizeof buf), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_address_of(NULL, "init_task", &va), -1, VMIE_E_ARGUMENT);
    CHECK(vmie_finding(0) == NULL && vmie_finding(-1) == NULL);
    vmie_os_free(NULL);
    CHECK(vmie_last_error() == VMIE_OK);
    vmie_names_free(NULL);
    CHECK(vmie_last_error() == VMIE_OK);
}

/* The bare guest has no kernel that keeps a list of processes. */
static void without_a_system(vmie_mem *m)
{
    FAILS(vmie_os_find(m), NULL, VMIE_E_OS);
    CHECK(strstr(vmie_last_error_text(), "linux") != NULL);
}

static void senseless(vmie_os *os)
{
    vmie_process process;
    vmie_module module;
    uint64_t va;
    char buf[8];
    const uint32_t nobody = UINT32_MAX - 1;
    FAILS(vmie_processes(os, &process, -1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_modules(os, VMIE_KERNEL, NULL, -1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_modules(os, nobody, &module, 1), -1, VMIE_E_NOT_FOUND);
    FAILS(vmie_os_kernel_cr3(os, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_symbols(os, VMIE_KERNEL, NULL, NULL, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_symbols(os, VMIE_KERNEL, "no_such_module", ignore, NULL), -1, VMIE_E_NOT_FOUND);
    FAILS(vmie_symbols(os, VMIE_KERNEL, "\xff", ignore, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_symbols(os, nobody, NULL, ignore, NULL), -1, VMIE_E_NOT_FOUND);
    FAILS(vmie_symbols(os, 1, NULL, ignore, NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_names_make(os, nobody), NULL, VMIE_E_NOT_FOUND);
    vmie_names *names = vmie_names_make(os, VMIE_KERNEL);
    CHECK(names != NULL);
    FAILS(vmie_name_of(names, 0x1000, buf, sizeof buf), -1, VMIE_E_NOT_FOUND);
    FAILS(vmie_name_of(names, 0x1000, NULL, 1), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_address_of(names, NULL, &va), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_address_of(names, "init_task", NULL), -1, VMIE_E_ARGUMENT);
    FAILS(vmie_address_of(names, "no_such_symbol", &va), -1, VMIE_E_NOT_FOUND);
    vmie_names_free(names);
}

/* Names lead back, fit into what there is, and stay when all else has gone. */
static void names_lead_back(vmie_os *os, vmie_names *names)
{
    uint64_t va, again;
    char whole[256], part[8];
    CHECK(vmie_address_of(names, "init_task+0x10", &va) == 0);
    int len = vmie_name_of(names, va, whole, sizeof whole);
    CHECK(len > 0 && (size_t)len == strlen(whole));
    CHECK(vmie_address_of(names, whole, &again) == 0 && again == va);
    CHECK(vmie_name_of(names, va, NULL, 0) == len);
    memset(part, 'x', sizeof part);
    CHECK(vmie_name_of(names, va, part, 5) == len);
    CHECK(strncmp(part, whole, 4) == 0 && part[4] == 0 && part[5] == 'x');
    uint64_t cr3;
    CHECK(vmie_os_kernel_cr3(os, &cr3) == 0 && cr3 != 0 && cr3 % 4096 == 0);
    CHECK(strlen(vmie_os_kind(os)) > 0 && strlen(vmie_os_version(os)) > 0);
}

struct some {
    const char *prefix;
    int left;
};

static int print(const vmie_symbol *symbol, void *user)
{
    struct some *some = user;
    if (strncmp(symbol->name, some->prefix, strlen(some->prefix)) != 0)
        return 0;
    printf("{\"va\":\"0x%" PRIx64 "\",\"name\":\"%s\",\"type\":\"%c\"}\n", symbol->va, symbol->name, symbol->kind);
    return --some->left == 0;
}

/* Ends the list at once. */
static int first_only(const vmie_symbol *symbol, void *user)
{
    CHECK(symbol->va != 1 && strlen(symbol->name) > 0);
    return ++*(int *)user;
}

/* A member that is text of the guest's, which can be anything. */
static void text(const char *key, const char *value)
{
    printf(",\"%s\":\"", key);
    for (; *value != 0; value++) {
        if ((unsigned char)*value < 0x20 || *value == '"' || *value == '\\')
            printf("\\u%04x", (unsigned)(unsigned char)*value);
        else
            putchar(*value);
    }
    putchar('"');
}

static void root(const char *key, uint64_t cr3)
{
    if (cr3 == 0)
        printf(",\"%s\":null", key);
    else
        printf(",\"%s\":\"0x%" PRIx64 "\"", key, cr3);
}

static void processes(vmie_os *os)
{
    int count = vmie_processes(os, NULL, 0);
    CHECK(count > 1);
    vmie_process *list = room(count, sizeof *list);
    /* No more than there is room for. */
    CHECK(vmie_processes(os, list, 1) == count && list[1].name[0] == 0);
    CHECK(vmie_processes(os, list, count) == count);
    for (int i = 0; i < count; i++) {
        CHECK(i == 0 || list[i - 1].pid < list[i].pid);
        CHECK((list[i].flags & VMIE_PROCESS_CUT) == 0);
        printf("{\"pid\":%" PRIu32 ",\"ppid\":%" PRIu32 ",\"state\":\"%c\",\"threads\":%" PRIu32 ",\"kernel\":%s",
               list[i].pid, list[i].ppid, list[i].state, list[i].threads,
               list[i].flags & VMIE_PROCESS_KERNEL ? "true" : "false");
        text("name", list[i].name);
        root("cr3", list[i].cr3);
        printf("}\n");
    }
    free(list);
}

static void modules(vmie_os *os, uint32_t pid)
{
    int count = vmie_modules(os, pid, NULL, 0);
    CHECK(count > 0);
    vmie_module *list = room(count, sizeof *list);
    CHECK(vmie_modules(os, pid, list, count) == count);
    for (int i = 0; i < count; i++) {
        CHECK(list[i].flags == 0 && (i == 0 || list[i - 1].start <= list[i].start));
        printf("{\"va\":\"0x%" PRIx64 "\",\"len\":%" PRIu64 ",\"start\":\"0x%" PRIx64 "\",\"span\":%" PRIu64,
               list[i].va, list[i].len, list[i].start, list[i].span);
        text("name", list[i].name);
        printf("}\n");
    }
    free(list);
}

static void *asker(void *arg)
{
    vmie_names *names = arg;
    uint64_t va;
    char name[128];
    for (int i = 0; i < 20; i++) {
        CHECK(vmie_address_of(names, "init_task", &va) == 0);
        CHECK(vmie_name_of(names, va, name, sizeof name) > 0);
    }
    return NULL;
}

static void threads(vmie_names *names)
{
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, asker, names) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
}

static void agree(int argc, char **argv)
{
    vmie_mem *m = open_guest(argv[3], argv[4]);
    vmie_os *os = vmie_os_find(m);
    CHECK(os != NULL);
    /* It does not need the handle it was found with. */
    vmie_close(m);
    if (strcmp(argv[2], "processes") == 0) {
        senseless(os);
        processes(os);
    } else if (strcmp(argv[2], "modules") == 0) {
        modules(os, argc > 6 ? (uint32_t)number(argv[6]) : VMIE_KERNEL);
    } else if (strcmp(argv[2], "symbols") == 0) {
        struct some some = {argv[6], -1};
        CHECK(vmie_symbols(os, VMIE_KERNEL, NULL, print, &some) > 1000);
        int seen = 0;
        CHECK(vmie_symbols(os, VMIE_KERNEL, NULL, first_only, &seen) == 1 && seen == 1);
    } else if (strcmp(argv[2], "names") == 0) {
        vmie_names *names = vmie_names_make(os, (uint32_t)number(argv[6]));
        CHECK(names != NULL);
        names_lead_back(os, names);
        vmie_os_free(os);
        os = NULL;
        threads(names);
        for (int i = 7; i < argc; i++) {
            uint64_t va;
            CHECK(vmie_address_of(names, argv[i], &va) == 0);
            printf("{\"va\":\"0x%" PRIx64 "\"}\n", va);
        }
        vmie_names_free(names);
    } else {
        CHECK(!"a question that is known");
    }
    vmie_os_free(os);
}

int main(int argc, char **argv)
{
    if (argc > 5 && strcmp(argv[1], "agree") == 0) {
        agree(argc, argv);
        return 0;
    }
    CHECK(argc == 5 && strcmp(argv[1], "check") == 0);
    vmie_mem *m = open_guest(argv[2], "-");
    nulls();
    without_a_system(m);
    vmie_close(m);
    return 0;
}
