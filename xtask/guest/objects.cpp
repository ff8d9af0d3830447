// The lab's model citizen: a small game-like world of objects for vmie to find.
//
// It has what people look for in real programs: a static pointer to a root object, classes with
// virtual functions (single and multiple inheritance), linked lists, a tree, ASCII, UTF-8 and UTF-16
// text, numbers of every width, values that change at each tick, and functions that refer to the
// static pointer. It states every address and value (see lab.h), so tests need no debug information.
//
// The same source is built static without PIE, static with PIE, and dynamically linked with PIE.
#include "lab.h"

#include <memory>
#include <vector>

using lab::Truth;

struct Vec3 {
    float x, y, z;
};

// A doubly linked list, with padding in the middle of the structure.
struct Item {
    Item* next;
    Item* prev;
    uint32_t id;
    uint16_t count;
    uint8_t grade;
    char tag[13];
    double weight;
};

// A binary search tree.
struct Node {
    Node* left;
    Node* right;
    uint64_t key;
    int64_t balance;
    const char* label;
};

struct World;

class Actor {
public:
    Actor(World* world, uint32_t id, const char* name) : world(world), id(id), name(name) {}
    virtual ~Actor() = default;
    virtual void tick(uint64_t now);
    virtual const char* kind() const = 0;

    World* world;
    uint32_t id;
    int32_t score = 0;
    float health = 100.0f;
    Vec3 position{};
    double energy = 1.0;
    std::string name;
    Actor* target = nullptr;
};

class Talker {
public:
    virtual ~Talker() = default;
    virtual const char16_t* says() const = 0;
    uint64_t words = 0;
};

class Player final : public Actor {
public:
    using Actor::Actor;
    void tick(uint64_t now) override;
    const char* kind() const override { return "player"; }
    Item* inventory = nullptr;
    uint64_t experience = 0;
    char16_t title[24] = u"Hüter der Schlüssel";
};

class Monster final : public Actor, public Talker {
public:
    using Actor::Actor;
    void tick(uint64_t now) override;
    const char* kind() const override { return "monster"; }
    const char16_t* says() const override { return u"grrr… я голоден"; }
    uint32_t rage = 0;
};

struct World {
    virtual ~World() = default;
    uint64_t ticks = 0;
    const char* banner = nullptr;
    Actor* actors[6] = {};
    Node* tree = nullptr;
    std::vector<Actor*> crowd;
    uint32_t seed = 0x5eed1234;
    double age = 0.0;
};

// The fixed base from which everything is reached.
extern "C" {
World* g_world = nullptr;
uint64_t g_numbers[4] = {0x1122334455667788, 0xdeadbeefcafef00d, 42, UINT64_MAX};
}

// In memory only: put together at run time, so that it is not also found in the ELF file's pages.
static char g_banner[96];

// Functions with external names, so that code signatures and code references can be tested.
extern "C" {

[[gnu::noinline]] uint64_t lab_mix(uint64_t a, uint64_t b) {
    a ^= 0x9e3779b97f4a7c15 + (b << 6) + (b >> 2);
    a *= 0xbf58476d1ce4e5b9;
    return a ^ (a >> 31);
}

[[gnu::noinline]] void lab_advance(void) {
    World* world = g_world;
    world->ticks++;
    world->age += 0.125;
    for (Actor* actor : world->actors)
        if (actor) actor->tick(world->ticks);
}

[[gnu::noinline]] const Node* lab_find(const Node* node, uint64_t key) {
    while (node && node->key != key) node = key < node->key ? node->left : node->right;
    return node;
}

[[gnu::noinline]] uint64_t lab_count_items(void) {
    uint64_t total = 0;
    auto* player = static_cast<Player*>(g_world->actors[0]);
    for (const Item* item = player->inventory; item; item = item->next) total += item->count;
    return total;
}

}  // extern "C"

void Actor::tick(uint64_t now) {
    position.x += 0.25f;
    position.y = static_cast<float>(now % 4096);
    energy += 0.5;
}

void Player::tick(uint64_t now) {
    Actor::tick(now);
    experience += 3;
}

void Monster::tick(uint64_t now) {
    Actor::tick(now);
    rage++;
    words = lab_mix(words, now) | 1;
}

static Item* make_items(int count) {
    Item* first = nullptr;
    Item* last = nullptr;
    for (int i = 0; i < count; i++) {
        auto* item = new Item{};
        item->prev = last;
        item->id = 1000 + static_cast<uint32_t>(i) * 7;
        item->count = static_cast<uint16_t>(i + 1);
        item->grade = static_cast<uint8_t>('A' + i % 6);
        snprintf(item->tag, sizeof item->tag, "item-%04d", i);
        item->weight = 0.1 * i;
        (last ? last->next : first) = item;
        last = item;
    }
    return first;
}

static Node* make_tree(uint64_t low, uint64_t high) {
    if (low >= high) return nullptr;
    const uint64_t middle = low + (high - low) / 2;
    char label[32];
    snprintf(label, sizeof label, "node #%" PRIu64, middle);
    return new Node{make_tree(low, middle), make_tree(middle + 1, high), middle * 11,
                    static_cast<int64_t>(high - middle) - static_cast<int64_t>(middle - low),
                    strdup(label)};
}

static uint64_t offset(const void* object, const void* field) {
    return static_cast<uint64_t>(static_cast<const char*>(field) -
                                 static_cast<const char*>(object));
}

static void state_actor(Truth& truth, const char* prefix, const Actor* actor) {
    const std::string p = std::string(prefix) + ".";
    truth.value((p + "world").c_str(), &actor->world);
    truth.value((p + "id").c_str(), &actor->id);
    truth.value((p + "score").c_str(), &actor->score);
    truth.value((p + "health").c_str(), &actor->health);
    truth.value((p + "position.z").c_str(), &actor->position.z);
    truth.value((p + "target").c_str(), &actor->target);
    truth.ascii((p + "name").c_str(), actor->name.c_str());
    truth.tick((p + "position.x").c_str(), &actor->position.x);
    truth.tick((p + "energy").c_str(), &actor->energy);
}

static void state_tree(Truth& truth, const Node* node, int depth) {
    if (!node || depth == 0) return;
    char name[64];
    snprintf(name, sizeof name, "node%" PRIu64, node->key);
    const std::string p = std::string(name) + ".";
    truth.value((p + "left").c_str(), &node->left);
    truth.value((p + "right").c_str(), &node->right);
    truth.value((p + "key").c_str(), &node->key);
    truth.value((p + "balance").c_str(), &node->balance);
    truth.value((p + "label").c_str(), &node->label);
    truth.ascii((p + "text").c_str(), node->label);
    state_tree(truth, node->left, depth - 1);
    state_tree(truth, node->right, depth - 1);
}

int main(int argc, char** argv) {
    lab::keep_present();
    const char* name = argc > 1 ? argv[1] : "objects";
    const auto pid = static_cast<uint64_t>(getpid());

    auto* world = new World;
    auto* player = new Player(world, 7, "Ada");
    auto* wolf = new Monster(world, 8, "a wolf with a name too long for the small-string buffer");
    auto* bat = new Monster(world, 9, "Fledermaus ümläut");
    player->inventory = make_items(40);
    player->target = wolf;
    player->score = -17;
    player->health = 87.5f;
    player->position.z = 3.25f;
    wolf->target = player;
    wolf->score = 1234567;
    wolf->health = 0.1f;
    bat->target = wolf;
    bat->position.z = -1e-3f;
    world->actors[0] = player;
    world->actors[1] = wolf;
    world->actors[3] = bat;
    world->crowd = {bat, player, wolf, bat};
    world->tree = make_tree(0, 500);
    snprintf(g_banner, sizeof g_banner, "%s %s, process %d", "vmie lab:", name,
             static_cast<int>(getpid()));
    world->banner = g_banner;
    g_world = world;

    Truth truth(name);
    truth.symbol("g_world", &g_world);
    truth.symbol("g_numbers", g_numbers);
    truth.symbol("lab_mix", reinterpret_cast<const void*>(&lab_mix));
    truth.symbol("lab_advance", reinterpret_cast<const void*>(&lab_advance));
    truth.symbol("lab_find", reinterpret_cast<const void*>(&lab_find));
    truth.symbol("lab_count_items", reinterpret_cast<const void*>(&lab_count_items));
    truth.symbol("main", reinterpret_cast<const void*>(&main));

    truth.ascii("banner", g_banner);
    truth.value("g_world", &g_world);
    for (size_t i = 0; i < 4; i++)
        truth.value((std::string("g_numbers.") + std::to_string(i)).c_str(), &g_numbers[i]);

    truth.vtable("World", world, sizeof *world);
    truth.vtable("Player", player, sizeof *player);
    truth.vtable("Monster", wolf, sizeof *wolf);
    truth.line("vtable Monster.Talker %p", *reinterpret_cast<void**>(static_cast<Talker*>(wolf)));
    truth.value("world.banner", &world->banner);
    truth.value("world.tree", &world->tree);
    truth.value("world.seed", &world->seed);
    for (size_t i = 0; i < 6; i++)
        truth.value((std::string("world.actors.") + std::to_string(i)).c_str(), &world->actors[i]);
    for (size_t i = 0; i < world->crowd.size(); i++)
        truth.value((std::string("world.crowd.") + std::to_string(i)).c_str(), &world->crowd[i]);
    truth.tick("world.ticks", &world->ticks);
    truth.tick("world.age", &world->age);

    state_actor(truth, "player", player);
    truth.value("player.inventory", &player->inventory);
    truth.utf16("player.title", player->title);
    truth.tick("player.experience", &player->experience);
    state_actor(truth, "wolf", wolf);
    truth.tick("wolf.rage", &wolf->rage);
    state_actor(truth, "bat", bat);
    truth.utf16("wolf.says", wolf->says());

    for (const Item* item = player->inventory; item; item = item->next) {
        const std::string p = std::string(item->tag) + ".";
        truth.value((p + "next").c_str(), &item->next);
        truth.value((p + "prev").c_str(), &item->prev);
        truth.value((p + "id").c_str(), &item->id);
        truth.value((p + "count").c_str(), &item->count);
        truth.value((p + "grade").c_str(), &item->grade);
        truth.ascii((p + "tag").c_str(), item->tag);
        truth.value((p + "weight").c_str(), &item->weight);
    }
    state_tree(truth, world->tree, 5);
    truth.line("note items %" PRIu64, lab_count_items());
    truth.line("note node 2750 at %p", static_cast<const void*>(lab_find(world->tree, 2750)));

    truth.line("path health %p %#" PRIx64 ",%#" PRIx64 " %p", static_cast<void*>(&g_world),
               offset(world, &world->actors[0]), offset(player, &player->health),
               static_cast<void*>(&player->health));
    truth.line("path wolf %p %#" PRIx64 ",%#" PRIx64 ",%#" PRIx64 " %p",
               static_cast<void*>(&g_world), offset(world, &world->actors[0]),
               offset(player, &player->target), offset(wolf, &wolf->rage),
               static_cast<void*>(&wolf->rage));
    truth.line("path second_item %p %#" PRIx64 ",%#" PRIx64 ",%#" PRIx64 ",%#" PRIx64 " %p",
               static_cast<void*>(&g_world), offset(world, &world->actors[0]),
               offset(player, &player->inventory), uint64_t{0},
               offset(player->inventory->next, &player->inventory->next->weight),
               static_cast<void*>(&player->inventory->next->weight));
    truth.ready();

    for (;;) {
        lab_advance();
        lab::spin(pid, 1'000'000);
        lab::nap(10);
    }
}
