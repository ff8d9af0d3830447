/* Sockets of every protocol and in every state, in the first network namespace. */
#include "links.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

/* An address that does not answer, and our own by which it is reached. */
static const char NOBODY[] = "10.66.0.99";
static const char OURS[] = "10.66.0.1";
enum { NOBODYS_PORT = 81 };

/* An address of either version. */
struct address {
    struct sockaddr_storage at;
    socklen_t len;
};

static struct address address(const char *text, unsigned short port) {
    struct address result = {0};
    struct sockaddr_in *four = (struct sockaddr_in *)&result.at;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&result.at;
    if (strchr(text, ':')) {
        *six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        inet_pton(AF_INET6, text, &six->sin6_addr);
        result.len = sizeof *six;
    } else {
        *four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        inet_pton(AF_INET, text, &four->sin_addr);
        result.len = sizeof *four;
    }
    return result;
}

static void shown(const struct address *of, char *text, unsigned *port) {
    const struct sockaddr_in *four = (const struct sockaddr_in *)&of->at;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&of->at;
    const bool is_six = of->at.ss_family == AF_INET6;
    inet_ntop(of->at.ss_family, is_six ? (const void *)&six->sin6_addr : &four->sin_addr, text, INET6_ADDRSTRLEN);
    *port = ntohs(is_six ? six->sin6_port : four->sin_port);
}

static void state(int fd, const char *proto, const char *name) {
    char local[INET6_ADDRSTRLEN] = "-", remote[INET6_ADDRSTRLEN] = "-";
    unsigned lport = 0, rport = 0;
    struct address one = {.len = sizeof one.at}, other = {.len = sizeof other.at};
    if (getsockname(fd, (struct sockaddr *)&one.at, &one.len)) die("getsockname");
    shown(&one, local, &lport);
    if (getpeername(fd, (struct sockaddr *)&other.at, &other.len) == 0) {
        shown(&other, remote, &rport);
    } else if (strcmp(name, "SYN_SENT") == 0) {
        /* Whom it calls is not its peer yet. */
        strcpy(remote, NOBODY);
        rport = NOBODYS_PORT;
    }
    fact("socket", "pid=%d fd=%d proto=%s state=%s local=%s lport=%u remote=%s rport=%u inode=%llu", getpid(), fd, proto, name, local,
         lport, remote, rport, inode_of(fd));
}

static int stream(const char *at) { return socket(strchr(at, ':') ? AF_INET6 : AF_INET, SOCK_STREAM, 0); }

static void bind_to(int fd, const char *text, unsigned short port) {
    const struct address where = address(text, port);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&where.at, where.len)) die("bind");
}

static void connect_to(int fd, const char *text, unsigned short port) {
    const struct address where = address(text, port);
    if (connect(fd, (const struct sockaddr *)&where.at, where.len)) die("connect");
}

static int listener(const char *at, unsigned short port) {
    const int fd = stream(at);
    bind_to(fd, at, port);
    if (listen(fd, 8)) die("listen");
    return fd;
}

static int client(const char *to, unsigned short port) {
    const int fd = stream(to);
    connect_to(fd, to, port);
    return fd;
}

static int accepted(int from) {
    const int fd = accept(from, NULL, NULL);
    if (fd < 0) die("accept");
    return fd;
}

static const char *proto(const char *at, const char *four, const char *six) { return strchr(at, ':') ? six : four; }

/* A listener at `at`, a connection to it by the address `to`, and both of its ends. */
static void pair(const char *at, const char *to, unsigned short port) {
    const int waits = listener(at, port);
    const int calls = client(to, port);
    const int answers = accepted(waits);
    state(waits, proto(at, "tcp", "tcp6"), "LISTEN");
    state(calls, proto(to, "tcp", "tcp6"), "ESTABLISHED");
    state(answers, proto(at, "tcp", "tcp6"), "ESTABLISHED");
    /* What was sent and not read stays in the queue of the receiver. */
    if (write(calls, "seventeen letters", 17) != 17) die("write");
}

static void half_closed(const char *at, unsigned short port) {
    const int waits = listener(at, port);
    const int calls = client(at, port);
    const int answers = accepted(waits);
    shutdown(calls, SHUT_WR);
    nap(50);
    state(calls, proto(at, "tcp", "tcp6"), "FIN_WAIT2");
    state(answers, proto(at, "tcp", "tcp6"), "CLOSE_WAIT");
}

static void never_accepted(const char *at, unsigned short port) {
    const int waits = listener(at, port);
    const int calls = client(at, port);
    state(waits, proto(at, "tcp", "tcp6"), "LISTEN");
    state(calls, proto(at, "tcp", "tcp6"), "ESTABLISHED");
    fact("socket", "proto=%s state=ESTABLISHED owner=none why=not-accepted local=%s lport=%u", proto(at, "tcp", "tcp6"), at, port);
}

static void syn_sent(void) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int often = 127;
    setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &often, sizeof often);
    const struct address where = address(NOBODY, NOBODYS_PORT);
    if (connect(fd, (const struct sockaddr *)&where.at, where.len) == 0 || errno != EINPROGRESS) die("connect to nobody");
    state(fd, "tcp", "SYN_SENT");
}

static uint32_t sum16(const void *at, size_t len, uint32_t sum) {
    const unsigned char *bytes = at;
    for (size_t i = 0; i + 1 < len; i += 2) sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    return sum;
}

/* A connection of which only the first packet came: a request that no socket belongs to. The packet is sent by hand, from an address
   that does not answer. */
static void syn_received(void) {
    /* The answer is repeated for a long time, in ever longer intervals. */
    if (!write_text("/proc/sys/net/ipv4/tcp_synack_retries", "100")) not_planted("tcp-synack-retries");
    const int waits = listener(OURS, 8086);
    state(waits, "tcp", "LISTEN");
    const int raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    struct {
        struct iphdr ip;
        struct tcphdr tcp;
    } packet = {
        .ip = {.ihl = 5, .version = 4, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons(sizeof packet)},
        .tcp = {.source = htons(4444), .dest = htons(8086), .seq = htonl(1), .doff = 5, .syn = 1, .window = htons(1024)},
    };
    inet_pton(AF_INET, NOBODY, &packet.ip.saddr);
    inet_pton(AF_INET, OURS, &packet.ip.daddr);
    uint32_t sum = sum16(&packet.ip.saddr, 8, IPPROTO_TCP + sizeof packet.tcp);
    sum = sum16(&packet.tcp, sizeof packet.tcp, sum);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    packet.tcp.check = htons((uint16_t)~sum);
    const struct address where = address(OURS, 0);
    if (raw < 0 || sendto(raw, &packet, sizeof packet, 0, (const struct sockaddr *)&where.at, where.len) < 0) die("a packet by hand");
    close(raw);
    fact("socket", "proto=tcp state=SYN_RECV owner=none why=request local=%s lport=8086 remote=%s rport=4444", OURS, NOBODY);
}

enum { GONE_PORT = 8087, GONE_FROM = 40087 };

/* A connection that we end first, between two given ports: it stays for a minute in TIME_WAIT. */
static void time_wait(int waits) {
    const int calls = stream("127.0.0.1");
    bind_to(calls, "127.0.0.1", GONE_FROM);
    connect_to(calls, "127.0.0.1", GONE_PORT);
    const int answers = accepted(waits);
    shutdown(calls, SHUT_RDWR);
    close(calls);
    nap(20);
    close(answers);
}

static void tcp(void) {
    pair("0.0.0.0", "127.0.0.1", 8080);
    pair("::1", "::1", 8081);
    pair("::", "::ffff:127.0.0.1", 8082);
    half_closed("127.0.0.1", 8083);
    half_closed("::1", 8084);
    never_accepted("127.0.0.1", 8085);
    syn_sent();
    syn_received();
    int fd = stream("127.0.0.1");
    bind_to(fd, "127.0.0.1", 8088);
    state(fd, "tcp", "BOUND");
    fd = stream("::");
    bind_to(fd, "::1", 8089);
    state(fd, "tcp6", "BOUND");
    state(stream("127.0.0.1"), "tcp", "UNBOUND");
    state(stream("::"), "tcp6", "UNBOUND");
}

static void udp(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bind_to(fd, "0.0.0.0", 5300);
    state(fd, "udp", "BOUND");
    int other = socket(AF_INET, SOCK_DGRAM, 0);
    connect_to(other, "127.0.0.1", 5300);
    if (write(other, "unread", 6) != 6) die("write");
    state(other, "udp", "CONNECTED");
    state(socket(AF_INET, SOCK_DGRAM, 0), "udp", "UNBOUND");
    fd = socket(AF_INET6, SOCK_DGRAM, 0);
    bind_to(fd, "::1", 5301);
    state(fd, "udp6", "BOUND");
    other = socket(AF_INET6, SOCK_DGRAM, 0);
    connect_to(other, "::1", 5301);
    state(other, "udp6", "CONNECTED");
    state(socket(AF_INET6, SOCK_DGRAM, 0), "udp6", "UNBOUND");
}

/* So that what they receive does not depend on when one looks. */
static void take_nothing(int fd) {
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog filter = {.len = 1, .filter = &nothing};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)) die("a filter");
}

static void rare(void) {
    const int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    fact("socket", "pid=%d fd=%d proto=raw number=%d inode=%llu", getpid(), raw, IPPROTO_ICMP, inode_of(raw));
    const int raw6 = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
    take_nothing(raw6);
    fact("socket", "pid=%d fd=%d proto=raw6 number=%d inode=%llu", getpid(), raw6, IPPROTO_ICMPV6, inode_of(raw6));
    const int all = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    take_nothing(all);
    struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex("dummy0")};
    if (bind(all, (struct sockaddr *)&where, sizeof where)) die("packet socket");
    fact("socket", "pid=%d fd=%d proto=packet number=%#x ifindex=%d inode=%llu", getpid(), all, ETH_P_ALL, where.sll_ifindex, inode_of(all));
    const int arp = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ARP));
    take_nothing(arp);
    fact("socket", "pid=%d fd=%d proto=packet number=%#x ifindex=0 inode=%llu", getpid(), arp, ETH_P_ARP, inode_of(arp));
    for (int kind = 0; kind < 2; kind++) {
        const int number = kind ? NETLINK_KOBJECT_UEVENT : NETLINK_ROUTE;
        const int fd = socket(AF_NETLINK, SOCK_RAW, number);
        struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = kind ? 1 : 0x11};
        socklen_t len = sizeof at;
        if (bind(fd, (struct sockaddr *)&at, sizeof at) || getsockname(fd, (struct sockaddr *)&at, &len)) die("netlink socket");
        fact("socket", "pid=%d fd=%d proto=netlink number=%d port=%u groups=%#x inode=%llu", getpid(), fd, number, at.nl_pid, at.nl_groups,
             inode_of(fd));
    }
}

static int local(int type, const char *name, size_t len, bool is_listening) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, name, len);
    const int fd = socket(AF_UNIX, type, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len))) die(name);
    if (is_listening && listen(fd, 4)) die("listen");
    return fd;
}

static int local_client(int type, const char *name, size_t len) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, name, len);
    const int fd = socket(AF_UNIX, type, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len))) die(name);
    return fd;
}

static void state_local(int fd, const char *type, const char *what, const char *name, size_t len) {
    fact("socket", "pid=%d fd=%d proto=unix type=%s state=%s name=%s inode=%llu", getpid(), fd, type, what, len ? escaped(name, len) : "-",
         inode_of(fd));
}

static void unix_sockets(void) {
    static const char PATH[] = "/data/a stream.socket", ABSTRACT[] = "\0an abstract\0name", DATAGRAMS[] = "/data/datagrams.socket",
                      PACKETS[] = "\0packets";
    const size_t path = sizeof PATH - 1, abstract = sizeof ABSTRACT - 1, datagrams = sizeof DATAGRAMS - 1, packets = sizeof PACKETS - 1;
    const int waits = local(SOCK_STREAM, PATH, path, true);
    state_local(waits, "stream", "LISTEN", PATH, path);
    const int calls = local_client(SOCK_STREAM, PATH, path);
    const int answers = accepted(waits);
    state_local(calls, "stream", "CONNECTED", "", 0);
    /* That of the listener. */
    state_local(answers, "stream", "CONNECTED", PATH, path);
    state_local(local_client(SOCK_STREAM, PATH, path), "stream", "CONNECTED", "", 0);
    fact("socket", "proto=unix type=stream owner=none why=not-accepted name=%s", escaped(PATH, path));
    state_local(local(SOCK_STREAM, ABSTRACT, abstract, true), "stream", "LISTEN", ABSTRACT, abstract);
    const int box = local(SOCK_DGRAM, DATAGRAMS, datagrams, false);
    state_local(box, "dgram", "BOUND", DATAGRAMS, datagrams);
    const int sender = local_client(SOCK_DGRAM, DATAGRAMS, datagrams);
    if (write(sender, "unread", 6) != 6) die("write");
    state_local(sender, "dgram", "CONNECTED", "", 0);
    state_local(local(SOCK_SEQPACKET, PACKETS, packets, true), "seqpacket", "LISTEN", PACKETS, packets);
    state_local(socket(AF_UNIX, SOCK_STREAM, 0), "stream", "UNBOUND", "", 0);
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) die("socketpair");
    state_local(ends[0], "seqpacket", "CONNECTED", "", 0);
    state_local(ends[1], "seqpacket", "CONNECTED", "", 0);
}

static void interfaces(void) {
    const int links = links_open();
    if (if_nametoindex("dummy0") == 0 && !link_add(links, "dummy0", "dummy", NULL)) die("dummy0");
    address_add(links, "dummy0", OURS, 24, NULL);
    address_add(links, "dummy0", "10.66.1.1", 16, "dummy0:more");
    write_text("/proc/sys/net/ipv6/conf/dummy0/accept_dad", "0");
    link_flags("dummy0", IFF_UP | IFF_PROMISC);
    address_add(links, "dummy0", "fd66::1", 64, NULL);
    close(links);
    const int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    fact("interface", "name=dummy0 netns=%llu addresses=10.66.0.1/24,10.66.1.1/16,fd66::1/64 up=1 promiscuous=1", inode_of(here));
    close(here);
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    *(struct sockaddr_in *)&route.rt_dst = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("198.51.100.0")};
    *(struct sockaddr_in *)&route.rt_genmask = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("255.255.255.0")};
    *(struct sockaddr_in *)&route.rt_gateway = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(NOBODY)};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(fd, SIOCADDRT, &route)) die("route");
    fact("route", "to=198.51.100.0/24 via=%s interface=dummy0", NOBODY);
    close(fd);
}

static void net(void) {
    interfaces();
    tcp();
    udp();
    rare();
    unix_sockets();
    const int waits = listener("127.0.0.1", GONE_PORT);
    state(waits, "tcp", "LISTEN");
    time_wait(waits);
    fact("socket", "proto=tcp state=TIME_WAIT owner=none why=time-wait local=127.0.0.1 lport=%d remote=127.0.0.1 rport=%d", GONE_FROM,
         GONE_PORT);
    ready();
    /* It lasts for a minute, and may be taken up again after a second. */
    for (;;) {
        nap(20000);
        time_wait(waits);
    }
}

const struct actor NET[] = {{"net", net}, {0}};
