/* A 32-bit program in a 64-bit guest: pointers of four bytes, code that 64-bit decoding reads wrongly.
   Freestanding, so that it needs neither 32-bit libraries nor headers; it states what it is in the form that
   lab.h describes. NAME is what it is called, and what its file in /lab/out is called. */

struct node {
    unsigned magic;
    struct node *next;
    int health;
    float speed;
    char name[16];
};

static struct node n3 = {0xc0de3203, 0, 33, 3.5f, "node-three"};
static struct node n2 = {0xc0de3202, 0, 22, 2.5f, "node-two"};
static struct node n1 = {0xc0de3201, 0, 11, 1.5f, "node-one"};
struct node *volatile g_head;
/* Leads into memory of the program's own making. */
struct node *volatile g_heap;
volatile int g_ticks = 5;
volatile int g_arr[8];

__attribute__((noinline)) void use_ticks(void) {
    g_ticks++;
    g_arr[g_ticks & 7] = g_ticks;
}

__attribute__((noinline)) int read_head(void) { return g_head->health; }

/* i386 system calls. */
enum { WRITE = 4, OPEN = 5, CLOSE = 6, GETPID = 20, RENAME = 38, NANOSLEEP = 162, MMAP2 = 192 };

static int system6(int number, int a, int b, int c, int d, int e, int f) {
    /* EBP is the sixth argument, and no operand can be in it. */
    int six[2] = {number, f};
    int result;
    __asm__ volatile(
        "pushl %%ebp\n\t"
        "movl 4(%%eax), %%ebp\n\t"
        "movl (%%eax), %%eax\n\t"
        "int $0x80\n\t"
        "popl %%ebp"
        : "=a"(result)
        : "a"(six), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
        : "memory");
    return result;
}

static int system3(int number, int a, int b, int c) { return system6(number, a, b, c, 0, 0, 0); }

static char g_text[4096];
static char *g_end;

static void text(const char *from) {
    while (*from) *g_end++ = *from++;
}

static void number(unsigned value) {
    char digits[10];
    int count = 0;
    do digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count) *g_end++ = digits[--count];
}

static void hex(unsigned value, int digits) {
    for (int shift = 4 * digits - 4; shift >= 0; shift -= 4)
        *g_end++ = "0123456789abcdef"[value >> shift & 15];
}

static void address(const volatile void *at) {
    text(" 0x");
    hex((unsigned)at, 8);
}

static void symbol(const char *name, const volatile void *at) {
    text("symbol ");
    text(name);
    address(at);
    text("\n");
}

static void value(const char *object, const char *field, const volatile void *at, const char *type) {
    text("value ");
    text(object);
    text(field);
    address(at);
    text(type);
}

static void pointer(const char *object, const char *field, struct node *const volatile *at) {
    value(object, field, at, " ptr32");
    address(*at);
    text("\n");
}

static void node(const char *name, struct node *node) {
    value(name, ".magic", &node->magic, " u32 ");
    number(node->magic);
    text("\n");
    pointer(name, ".next", &node->next);
    value(name, ".health", &node->health, " i32 ");
    number((unsigned)node->health);
    text("\n");
    /* All of them are halves. */
    value(name, ".speed", &node->speed, " f32 ");
    number((unsigned)(int)node->speed);
    text(".5\n");
    value(name, ".name", node->name, " ascii ");
    for (const char *at = node->name; *at; at++) hex((unsigned char)*at, 2);
    text("\n");
}

/* As lab::spin, with the registers that 32-bit code has: the same number in ESI and EDI, the process in EDX. */
static void spin(int pid, int rounds) {
    __asm__ volatile(
        "1:\tdecl %[rounds]\n\t"
        "jnz 1b"
        : [rounds] "+c"(rounds)
        : "S"(0x564d4945), "D"(0x4c414221), "d"(pid)
        : "cc");
}

void _start(void) {
    /* At run time: nobody relocates a position-independent program that has no libraries. */
    g_end = g_text;
    n1.next = &n2;
    n2.next = &n3;
    g_head = &n1;
    n1.health = 12;
    n3.health = 34;
    /* PROT_READ | PROT_WRITE; MAP_PRIVATE | MAP_ANONYMOUS */
    struct node *heap = (struct node *)system6(MMAP2, 0, 4096, 3, 0x22, -1, 0);
    heap->magic = 0xc0de3204;
    heap->next = &n1;
    heap->health = 44;
    heap->speed = 4.5f;
    for (int i = 0; i < 9; i++) heap->name[i] = "node-heap"[i];
    g_heap = heap;
    const int pid = system3(GETPID, 0, 0, 0);

    text("program " NAME "\npid ");
    number((unsigned)pid);
    text("\nbusy ");
    number((unsigned)pid);
    text("\n");
    symbol("g_head", &g_head);
    symbol("g_heap", &g_heap);
    symbol("g_ticks", &g_ticks);
    symbol("g_arr", g_arr);
    symbol("n1", &n1);
    symbol("n2", &n2);
    symbol("n3", &n3);
    symbol("use_ticks", (const void *)&use_ticks);
    symbol("read_head", (const void *)&read_head);
    pointer("g_head", "", &g_head);
    pointer("g_heap", "", &g_heap);
    node("n1", &n1);
    node("n2", &n2);
    node("n3", &n3);
    node("heap", heap);
    text("tick g_ticks");
    address(&g_ticks);
    text(" u32\npath third");
    address(&g_head);
    text(" 0x4,0x4,0x8");
    address(&n3.health);
    text("\npath heap");
    address(&g_heap);
    text(" 0xc");
    address(&heap->speed);
    text("\nsize node ");
    number(sizeof(struct node));
    text("\narea heap");
    address(heap);
    text(" 0x1000\nready\n");

    /* O_WRONLY | O_CREAT | O_TRUNC */
    const int out = system3(OPEN, (int)"/lab/out/" NAME ".draft", 01 | 0100 | 01000, 0644);
    system3(WRITE, out, (int)g_text, g_end - g_text);
    system3(CLOSE, out, 0, 0);
    system3(RENAME, (int)"/lab/out/" NAME ".draft", (int)"/lab/out/" NAME, 0);
    for (;;) {
        const int nap[2] = {0, 40 * 1000 * 1000};
        use_ticks();
        read_head();
        spin(pid, 300000);
        system3(NANOSLEEP, (int)nap, 0, 0);
    }
}
