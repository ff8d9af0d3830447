/* Interfaces, made and set up by rtnetlink (rtnetlink(7), include/uapi/linux/if_link.h). Each function ends the actor when
   the kernel refuses, but where it says otherwise. */
#pragma once

#include "scene.h"

/* A socket to ask the current network namespace with, later on too, from another one. */
int links_open(void);

/* False with errno where the kernel has no such kind. */
bool link_add(int links, const char *name, const char *kind, const char *peer);
void link_move(int links, const char *name, int namespace_fd);
/* Adds flags of netdevice(7) to an interface. */
void link_flags(const char *name, short flags);
/* `label` may be NULL; addresses of version 6 are not probed for duplicates, and so are final at once. */
void address_add(int links, const char *interface, const char *address, unsigned prefix, const char *label);
