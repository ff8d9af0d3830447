// SPDX-License-Identifier: GPL-2.0
#include "shade.h"

static int __init shade_init(void)
{
    int error = shade_memory_init();

    if (error)
        return error;
    shade_hide_init();
    shade_text();
    shade_tables();
    shade_callbacks();
    shade_lsm();
    return 0;
}

/* No exit: it stays. */
module_init(shade_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hooks everything, for tests of what finds hooks");
