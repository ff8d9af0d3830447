/* eBPF programs of each kind, loaded and attached by bpf(2) itself: to a socket, by perf to a probe and a tracepoint, by links, to a group, to
   an interface; one that is only pinned, one that only a descriptor holds, one that a map leads to. */
#include "scene.h"

#include <elf.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* `r0 = VALUE; exit` */
#define ANSWER(value) {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = (value)}, {.code = BPF_JMP | BPF_EXIT}

static int bpf(int command, void *attributes, unsigned len) { return (int)syscall(SYS_bpf, command, attributes, len); }

/* How a program is loaded beside its code. */
struct load {
    unsigned type, attach;
    const char *name;
    unsigned btf_id;
};

static int load_code(struct load how, const struct bpf_insn *code, unsigned count) {
    static char log[64 << 10];
    union bpf_attr attributes = {.prog_type = how.type,
                                 .insns = (uintptr_t)code,
                                 .insn_cnt = count,
                                 .license = (uintptr_t)"GPL",
                                 .log_buf = (uintptr_t)log,
                                 .log_size = sizeof log,
                                 .log_level = 1,
                                 .expected_attach_type = how.attach,
                                 .attach_btf_id = how.btf_id};
    strncpy(attributes.prog_name, how.name, BPF_OBJ_NAME_LEN - 1);
    const int fd = bpf(BPF_PROG_LOAD, &attributes, sizeof attributes);
    if (fd < 0) {
        const int error = errno;
        if (log[0]) fprintf(stderr, "scene bpf: %s: %s\n", how.name, log);
        errno = error;
        char what[64];
        snprintf(what, sizeof what, "bpf-%s", how.name);
        not_planted(what);
    } else {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    return fd;
}

static int load(struct load how, int answer) {
    const struct bpf_insn code[] = {ANSWER(answer)};
    return load_code(how, code, 2);
}

/* `how` is what it is attached by, and to what. */
static void state(int fd, const char *how, const char *to) {
    struct bpf_prog_info info = {0};
    union bpf_attr attributes = {.info.bpf_fd = (uint32_t)fd, .info.info_len = sizeof info, .info.info = (uintptr_t)&info};
    if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes)) die("bpf: info");
    char tag[2 * sizeof info.tag + 1];
    for (size_t i = 0; i < sizeof info.tag; i++) sprintf(tag + 2 * i, "%02x", info.tag[i]);
    fact("bpf-program", "pid=%d id=%u type=%u name=%s tag=%s by=%s to=%s jited=%u", getpid(), info.id, info.type, info.name, tag, how, to,
         info.jited_prog_len);
}

static void not_attached(const char *name) {
    char what[64];
    snprintf(what, sizeof what, "bpf-attach-%s", name);
    not_planted(what);
}

static int map_named(const char *name) {
    union bpf_attr attributes = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 4};
    strncpy(attributes.map_name, name, BPF_OBJ_NAME_LEN - 1);
    const int fd = bpf(BPF_MAP_CREATE, &attributes, sizeof attributes);
    if (fd < 0) not_planted("bpf-map");
    return fd;
}

static void pin(int fd, const char *path) {
    union bpf_attr attributes = {.pathname = (uintptr_t)path, .bpf_fd = (uint32_t)fd};
    if (bpf(BPF_OBJ_PIN, &attributes, sizeof attributes)) not_attached("pinned");
}

/* The start of each kind's member of BPF_LINK_CREATE is the same; what follows depends on the kind. */
struct link {
    uint32_t program, target, attach, flags;
    union {
        struct {
            uint32_t family, hook;
            int32_t priority;
            uint32_t flags;
        } netfilter;
        struct {
            uint32_t flags, count;
            uint64_t symbols, addresses, cookies;
        } kprobes;
        uint64_t room[4];
    };
};

static void attach_by_link(int program, const char *name, const char *to, struct link link) {
    if (program < 0) return;
    link.program = (uint32_t)program;
    if (bpf(BPF_LINK_CREATE, &link, sizeof link) < 0)
        not_attached(name);
    else
        state(program, "link", to);
}

static int perf(unsigned type, uint64_t config, uint64_t text, pid_t pid, int cpu) {
    struct perf_event_attr attributes = {
        .type = type, .size = sizeof attributes, .config = config, .config1 = text, .sample_period = 1000000000, .wakeup_events = 1};
    return (int)syscall(SYS_perf_event_open, &attributes, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static void attach_by_perf(int program, const char *name, const char *to, int event) {
    if (program < 0) return;
    if (event < 0 || ioctl(event, PERF_EVENT_IOC_SET_BPF, program) || ioctl(event, PERF_EVENT_IOC_ENABLE, 0))
        not_attached(name);
    else
        state(program, "perf", to);
}

static unsigned number_in(const char *path) {
    unsigned number = 0;
    FILE *in = fopen(path, "re");
    if (in && fscanf(in, "%u", &number) != 1) number = 0;
    if (in) fclose(in);
    return number;
}

/* The number that the kernel's types give to a function; 0 when there is none. The form is described in the kernel's Documentation/bpf/btf.rst. */
static unsigned function_type(const char *name) {
    FILE *in = fopen("/sys/kernel/btf/vmlinux", "re");
    struct stat about;
    unsigned found = 0;
    if (!in || stat("/sys/kernel/btf/vmlinux", &about)) return 0;
    unsigned char *all = malloc((size_t)about.st_size);
    if (all && fread(all, 1, (size_t)about.st_size, in) == (size_t)about.st_size) {
        const struct btf_header *header = (void *)all;
        const unsigned char *at = all + header->hdr_len + header->type_off, *end = at + header->type_len;
        const char *strings = (char *)all + header->hdr_len + header->str_off;
        /* Bytes behind each member, of each kind from BTF_KIND_INT on. */
        static const unsigned char MEMBER[] = {0, 0, 0, 0, 12, 12, 8, 0, 0, 0, 0, 0, 0, 8, 0, 12, 0, 0, 0, 12};
        for (unsigned id = 1; at + sizeof(struct btf_type) <= end && !found; id++) {
            const struct btf_type *type = (void *)at;
            const unsigned kind = BTF_INFO_KIND(type->info), count = BTF_INFO_VLEN(type->info);
            if (kind >= sizeof MEMBER) break;
            if (kind == BTF_KIND_FUNC && strcmp(strings + type->name_off, name) == 0) found = id;
            at += sizeof *type + (size_t)count * MEMBER[kind] + (kind == BTF_KIND_ARRAY ? 12 : 0) +
                  (kind == BTF_KIND_INT || kind == BTF_KIND_VAR || kind == 17 /* DECL_TAG */ ? 4 : 0);
        }
    }
    free(all);
    fclose(in);
    return found;
}

static void on_socket(void) {
    const int program = load((struct load){BPF_PROG_TYPE_SOCKET_FILTER, 0, "watch_udp", 0}, -1);
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(5310)};
    if (program < 0) return;
    if (bind(fd, (struct sockaddr *)&here, sizeof here)) die("bind");
    char to[64];
    snprintf(to, sizeof to, "socket:[%llu]", inode_of(fd));
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program)) not_attached("watch_udp");
    state(program, "socket", to);
    close(program);
}

/* Where in its file a program begins; 0 when it is none. */
static uint64_t entry_of(const char *path) {
    Elf64_Ehdr header;
    uint64_t found = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, &header, sizeof header, 0) != sizeof header) return 0;
    for (int i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr part;
        if (pread(fd, &part, sizeof part, (off_t)(header.e_phoff + (uint64_t)i * sizeof part)) != sizeof part) break;
        if (part.p_type == PT_LOAD && header.e_entry - part.p_vaddr < part.p_filesz) found = part.p_offset + header.e_entry - part.p_vaddr;
    }
    close(fd);
    return found;
}

/* The kernel writes breakpoints into programs for whoever asks it to: code that is not what its file says, and rightly so. */
static void in_program(void) {
    static const char PATH[] = "/bin/bash";
    const unsigned uprobe = number_in("/sys/bus/event_source/devices/uprobe/type");
    const uint64_t at = entry_of(PATH);
    struct perf_event_attr attributes = {
        .type = uprobe, .size = sizeof attributes, .config1 = (uintptr_t)PATH, .config2 = at, .sample_period = 1000000000, .wakeup_events = 1};
    const int fd = (int)syscall(SYS_perf_event_open, &attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
    if (!uprobe || !at || fd < 0)
        not_planted("uprobe");
    else
        fact("uprobe", "pid=%d fd=%d path=%s offset=%#" PRIx64, getpid(), fd, PATH, at);
}

static void by_perf(void) {
    const unsigned kprobe = number_in("/sys/bus/event_source/devices/kprobe/type");
    const int counters = map_named("counters");
    const struct bpf_insn code[] = {
        {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = counters}, {0}, ANSWER(0)};
    const int probe = load_code((struct load){BPF_PROG_TYPE_KPROBE, 0, "on_sethostname", 0}, code, 4);
    attach_by_perf(probe, "on_sethostname", "kprobe:__x64_sys_sethostname", perf(kprobe, 0, (uintptr_t) "__x64_sys_sethostname", -1, 0));
    const int ret = load((struct load){BPF_PROG_TYPE_KPROBE, 0, "on_ret", 0}, 0);
    attach_by_perf(ret, "on_ret", "kretprobe:__x64_sys_setdomainname", perf(kprobe, 1, (uintptr_t) "__x64_sys_setdomainname", -1, 0));
    const unsigned exec = number_in("/sys/kernel/tracing/events/sched/sched_process_exec/id");
    const int trace = load((struct load){BPF_PROG_TYPE_TRACEPOINT, 0, "on_exec", 0}, 0);
    attach_by_perf(trace, "on_exec", "tracepoint:sched_process_exec", perf(PERF_TYPE_TRACEPOINT, exec, 0, -1, 0));
    const int clock = perf(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, 0, 0, -1);
    if (clock < 0)
        not_planted("perf-event");
    else
        fact("perf", "pid=%d fd=%d what=page-faults", getpid(), clock);
}

static void by_link(void) {
    const int raw = load((struct load){BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "raw_exit", 0}, 0);
    union bpf_attr open_one = {.raw_tracepoint.name = (uintptr_t) "sched_process_exit", .raw_tracepoint.prog_fd = (uint32_t)raw};
    if (raw >= 0 && bpf(BPF_RAW_TRACEPOINT_OPEN, &open_one, sizeof open_one) < 0)
        not_attached("raw_exit");
    else if (raw >= 0)
        state(raw, "link", "raw-tracepoint:sched_process_exit");

    const unsigned dummy = if_nametoindex("dummy0");
    attach_by_link(load((struct load){BPF_PROG_TYPE_XDP, 0, "drop_none", 0}, 2 /* XDP_PASS */), "drop_none", "xdp:dummy0",
                   (struct link){.target = dummy, .attach = 37 /* BPF_XDP */, .flags = 2 /* XDP_FLAGS_SKB_MODE */});
    attach_by_link(load((struct load){BPF_PROG_TYPE_SCHED_CLS, 0, "tcx_in", 0}, -1), "tcx_in", "tcx:dummy0",
                   (struct link){.target = dummy, .attach = 46 /* BPF_TCX_INGRESS */});
    attach_by_link(load((struct load){32 /* BPF_PROG_TYPE_NETFILTER */, 45 /* BPF_NETFILTER */, "nf_accept", 0}, 1), "nf_accept",
                   "netfilter:ipv4:local-out",
                   (struct link){.attach = 45, .netfilter = {.family = 2 /* NFPROTO_IPV4 */, .hook = 3 /* LOCAL_OUT */, .priority = -128}});
    static const char *const TWO[] = {"__x64_sys_acct", "__x64_sys_quotactl"};
    attach_by_link(load((struct load){BPF_PROG_TYPE_KPROBE, 42 /* BPF_TRACE_KPROBE_MULTI */, "on_many", 0}, 0), "on_many",
                   "kprobe-multi:__x64_sys_acct,__x64_sys_quotactl",
                   (struct link){.attach = 42, .kprobes = {.count = 2, .symbols = (uintptr_t)TWO}});
    const unsigned type = function_type("ksys_sync_helper");
    if (type == 0) {
        errno = ENOENT;
        not_planted("bpf-on_entry");
        return;
    }
    const int entry = load((struct load){BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, "on_entry", type}, 0);
    union bpf_attr trampoline = {.raw_tracepoint.prog_fd = (uint32_t)entry};
    if (entry >= 0 && bpf(BPF_RAW_TRACEPOINT_OPEN, &trampoline, sizeof trampoline) < 0)
        not_attached("on_entry");
    else if (entry >= 0)
        state(entry, "link", "fentry:ksys_sync_helper");
}

static void on_group(void) {
    static const char GROUP[] = "/sys/fs/cgroup/bpf.slice";
    mkdir(GROUP, 0755);
    const int group = open(GROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (group < 0) {
        not_planted("bpf-cgroup");
        return;
    }
    const int out = load((struct load){BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, "group_out", 0}, 1);
    union bpf_attr attach = {.target_fd = (uint32_t)group, .attach_bpf_fd = (uint32_t)out, .attach_type = BPF_CGROUP_INET_EGRESS};
    if (out >= 0 && bpf(BPF_PROG_ATTACH, &attach, sizeof attach))
        not_attached("group_out");
    else if (out >= 0)
        state(out, "cgroup", "/bpf.slice");
    close(out);
    attach_by_link(load((struct load){BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS, "group_in", 0}, 1), "group_in", "cgroup:/bpf.slice",
                   (struct link){.target = (uint32_t)group, .attach = BPF_CGROUP_INET_INGRESS});
}

static void held(void) {
    const int pinned = load((struct load){BPF_PROG_TYPE_SOCKET_FILTER, 0, "only_pinned", 0}, 1);
    if (pinned >= 0) {
        pin(pinned, "/sys/fs/bpf/kept");
        state(pinned, "pin", "/sys/fs/bpf/kept");
        close(pinned);
    }
    const int open_one = load((struct load){BPF_PROG_TYPE_SOCKET_FILTER, 0, "only_open", 0}, 1);
    if (open_one >= 0) state(open_one, "fd", "-");
    const int table = map_named("table");
    if (table >= 0) {
        pin(table, "/sys/fs/bpf/table");
        close(table);
    }
    fact("bpf-map", "name=table by=pin to=/sys/fs/bpf/table");
    fact("bpf-map", "name=counters by=program to=on_sethostname");
    fact("bpf-map", "name=held_by_fd by=fd to=files");
}

static void programs(void) {
    /* The interface is made there. */
    await("/lab/out/scene.net");
    on_socket();
    in_program();
    by_perf();
    by_link();
    on_group();
    held();
}

const struct actor BPF[] = {{"bpf", programs}, {0}};
