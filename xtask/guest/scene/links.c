#include "links.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* A message that is being put together. */
struct request {
    struct nlmsghdr header;
    char body[512];
};

static void *more(struct request *request, size_t len) {
    char *at = (char *)request + NLMSG_ALIGN(request->header.nlmsg_len);
    request->header.nlmsg_len = (uint32_t)(at - (char *)request + len);
    if (request->header.nlmsg_len > sizeof *request) die("netlink: no room");
    return at;
}

static struct rtattr *begin(struct request *request, unsigned short type, const void *value, size_t len) {
    struct rtattr *attribute = more(request, RTA_LENGTH(len));
    attribute->rta_type = type;
    attribute->rta_len = (unsigned short)RTA_LENGTH(len);
    if (len) memcpy(RTA_DATA(attribute), value, len);
    return attribute;
}

static void end(struct request *request, struct rtattr *attribute) {
    attribute->rta_len = (unsigned short)((char *)request + request->header.nlmsg_len - (char *)attribute);
}

static void text(struct request *request, unsigned short type, const char *value) { begin(request, type, value, strlen(value) + 1); }

int links_open(void) {
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) die("netlink");
    return fd;
}

static bool ask(int links, struct request *request) {
    request->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    if (send(links, request, request->header.nlmsg_len, 0) < 0) die("netlink: send");
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[1024];
    } answer;
    if (recv(links, &answer, sizeof answer, 0) < (ssize_t)NLMSG_LENGTH(sizeof answer.error) || answer.header.nlmsg_type != NLMSG_ERROR)
        die("netlink: no answer");
    errno = -answer.error.error;
    return answer.error.error == 0;
}

static struct request about_link(unsigned short type, const char *name) {
    struct request request = {.header.nlmsg_len = NLMSG_LENGTH(0), .header.nlmsg_type = type};
    struct ifinfomsg *info = more(&request, sizeof *info);
    info->ifi_family = AF_UNSPEC;
    text(&request, IFLA_IFNAME, name);
    return request;
}

bool link_add(int links, const char *name, const char *kind, const char *peer) {
    struct request request = about_link(RTM_NEWLINK, name);
    request.header.nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
    struct rtattr *info = begin(&request, IFLA_LINKINFO, NULL, 0);
    text(&request, IFLA_INFO_KIND, kind);
    if (peer) {
        struct rtattr *data = begin(&request, IFLA_INFO_DATA, NULL, 0);
        struct rtattr *other = begin(&request, VETH_INFO_PEER, NULL, 0);
        memset(more(&request, sizeof(struct ifinfomsg)), 0, sizeof(struct ifinfomsg));
        text(&request, IFLA_IFNAME, peer);
        end(&request, other);
        end(&request, data);
    }
    end(&request, info);
    return ask(links, &request);
}

void link_move(int links, const char *name, int namespace_fd) {
    struct request request = about_link(RTM_NEWLINK, name);
    const uint32_t fd = (uint32_t)namespace_fd;
    begin(&request, IFLA_NET_NS_FD, &fd, sizeof fd);
    if (!ask(links, &request)) die("moving an interface");
}

void link_flags(const char *name, short flags) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request)) die(name);
    request.ifr_flags |= flags;
    if (ioctl(fd, SIOCSIFFLAGS, &request)) die(name);
    close(fd);
}

void address_add(int links, const char *interface, const char *address, unsigned prefix, const char *label) {
    unsigned char bytes[16];
    const bool is_six = strchr(address, ':') != NULL;
    if (inet_pton(is_six ? AF_INET6 : AF_INET, address, bytes) != 1) die(address);
    struct request request = {.header.nlmsg_len = NLMSG_LENGTH(0), .header.nlmsg_type = RTM_NEWADDR};
    request.header.nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
    struct ifaddrmsg *info = more(&request, sizeof *info);
    *info = (struct ifaddrmsg){.ifa_family = is_six ? AF_INET6 : AF_INET,
                               .ifa_prefixlen = (uint8_t)prefix,
                               .ifa_flags = is_six ? IFA_F_NODAD : 0,
                               .ifa_index = if_nametoindex(interface)};
    begin(&request, IFA_LOCAL, bytes, is_six ? 16 : 4);
    begin(&request, IFA_ADDRESS, bytes, is_six ? 16 : 4);
    if (label) text(&request, IFA_LABEL, label);
    if (!ask(links, &request)) die(address);
}
