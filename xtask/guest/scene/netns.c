/* More network namespaces: one with a process in it, connected with the first one; one that only a bind mount keeps, and in which a
   socket of a process elsewhere waits; one that only a descriptor keeps. */
#include "links.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

static unsigned long long current_namespace(void) {
    const int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    const unsigned long long number = inode_of(fd);
    close(fd);
    return number;
}

static int own_namespace(void) {
    const int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0) die("namespace");
    return fd;
}

static void enter_new(void) {
    if (unshare(CLONE_NEWNET)) die("unshare");
    write_text("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
    write_text("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    link_flags("lo", IFF_UP);
}

static int listener(const char *at, unsigned short port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(at)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&where, sizeof where) || listen(fd, 4)) die("listener");
    return fd;
}

static void state(int fd, const char *name, const char *local, unsigned lport, const char *remote, unsigned rport, unsigned long long in) {
    fact("socket", "pid=%d fd=%d proto=tcp state=%s local=%s lport=%u remote=%s rport=%u inode=%llu netns=%llu", getpid(), fd, name, local,
         lport, remote, rport, inode_of(fd), in);
}

/* Stays in a namespace of its own. */
static void blue(void) {
    const int first = links_open();
    const unsigned long long outside = current_namespace();
    if (!link_add(first, "veth-host", "veth", "veth-blue")) {
        not_planted("veth");
        enter_new();
        fact("netns", "name=blue inode=%llu held=process pid=%d", current_namespace(), getpid());
        return;
    }
    address_add(first, "veth-host", "10.77.0.1", 24, NULL);
    write_text("/proc/sys/net/ipv6/conf/veth-host/accept_dad", "0");
    link_flags("veth-host", IFF_UP);
    const int waits = listener("10.77.0.1", 9090);
    enter_new();
    const int here = own_namespace();
    const unsigned long long inside = inode_of(here);
    link_move(first, "veth-blue", here);
    close(here);
    const int links = links_open();
    address_add(links, "veth-blue", "10.77.0.2", 24, NULL);
    address_add(links, "veth-blue", "fd77::2", 64, NULL);
    link_flags("veth-blue", IFF_UP);
    struct arpreq neighbour = {.arp_flags = ATF_PERM | ATF_COM, .arp_dev = "veth-blue"};
    *(struct sockaddr_in *)&neighbour.arp_pa = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("10.77.0.9")};
    neighbour.arp_ha.sa_family = ARPHRD_ETHER;
    memcpy(neighbour.arp_ha.sa_data, "\x02\x00\x00\x00\x00\x09", 6);
    const int asks = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(asks, SIOCSARP, &neighbour)) die("neighbour");
    close(asks);

    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(9090), .sin_addr.s_addr = inet_addr("10.77.0.1")};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(40090), .sin_addr.s_addr = inet_addr("10.77.0.2")};
    const int calls = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(calls, (struct sockaddr *)&from, sizeof from) || connect(calls, (struct sockaddr *)&there, sizeof there)) die("connect");
    const int answers = accept(waits, NULL, NULL);
    if (answers < 0) die("accept");
    close(first);
    close(links);
    fact("netns", "name=blue inode=%llu held=process pid=%d", inside, getpid());
    fact("interface", "name=veth-host netns=%llu addresses=10.77.0.1/24 up=1 promiscuous=0", outside);
    fact("interface", "name=veth-blue netns=%llu addresses=10.77.0.2/24,fd77::2/64 up=1 promiscuous=0", inside);
    fact("neighbour", "address=10.77.0.9 mac=02:00:00:00:00:09 interface=veth-blue netns=%llu", inside);
    state(waits, "LISTEN", "10.77.0.1", 9090, "-", 0, outside);
    state(answers, "ESTABLISHED", "10.77.0.1", 9090, "10.77.0.2", 40090, outside);
    state(calls, "ESTABLISHED", "10.77.0.2", 40090, "10.77.0.1", 9090, inside);
    state(listener("0.0.0.0", 9091), "LISTEN", "0.0.0.0", 9091, "-", 0, inside);
}

/* Makes namespaces and goes back to the first one. */
static void namespaces(void) {
    const int first = own_namespace();
    enter_new();
    const int links = links_open();
    if (link_add(links, "quiet0", "dummy", NULL)) {
        address_add(links, "quiet0", "192.0.2.1", 24, NULL);
        address_add(links, "quiet0", "2001:db8::1", 64, NULL);
        link_flags("quiet0", IFF_UP);
        fact("interface", "name=quiet0 netns=%llu addresses=192.0.2.1/24,2001:db8::1/64 up=1 promiscuous=0", current_namespace());
    } else {
        not_planted("quiet0");
    }
    close(links);
    state(listener("192.0.2.1", 9092), "LISTEN", "192.0.2.1", 9092, "-", 0, current_namespace());
    mkdir("/run", 0755);
    mkdir("/run/netns", 0755);
    if (!write_text("/run/netns/quiet", "") || mount("/proc/self/ns/net", "/run/netns/quiet", NULL, MS_BIND, NULL)) die("/run/netns/quiet");
    fact("netns", "name=quiet inode=%llu held=mount path=/run/netns/quiet", current_namespace());

    enter_new();
    const int held = open("/proc/self/ns/net", O_RDONLY);
    fact("netns", "name=held inode=%llu held=fd pid=%d fd=%d", inode_of(held), getpid(), held);
    if (setns(first, CLONE_NEWNET)) die("setns");
    close(first);
}

const struct actor NETNS[] = {{"blue", blue}, {"namespaces", namespaces}, {0}};
