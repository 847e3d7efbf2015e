#define _POSIX_C_SOURCE 200809L
#include "simulated.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ADDRESS = 0x40000, LATENCY = 100, IDLE_CYCLES = 200, LIMIT = 10000 };

/* As memory.h of the simulator: what it is told, and its state. */
struct settings {
    uint64_t latency, reorder, seed, fill;
    uint64_t error_first, error_end, window_first, window_end;
    uint64_t waves_first, waves_last, threads;
    double bytes_per_cycle, stall;
};
struct state {
    uint64_t words[15]; /* the second one is the interrupt, the sixth the accesses out of bounds */
};

void fail(const char *what, const char *why) {
    fprintf(stderr, "error: %s: %s\n", what, why);
    exit(1);
}

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) fail(name, "the simulator has no such function");
    return found;
}

static uint32_t read_register(void *context, uint32_t offset) {
    struct simulated *chip = context;
    uint32_t value = 0;
    if (chip->read_register(chip->simulation, offset, &value, LIMIT)) fail("read", "no answer");
    return value;
}

static void write_register(void *context, uint32_t offset, uint32_t value) {
    struct simulated *chip = context;
    if (chip->write_register(chip->simulation, offset, value, LIMIT)) fail("write", "no answer");
}

/* The simulated memory is not the processor's: what a cache would need is a copy here. */

static void clean(void *context, uint32_t first, uint32_t bytes) {
    struct simulated *chip = context;
    chip->write(chip->simulation, ADDRESS + (uint64_t)chip->first + first,
                chip->memory + chip->first + first, bytes);
}

static void invalidate(void *context, uint32_t first, uint32_t bytes) {
    struct simulated *chip = context;
    chip->read(chip->simulation, ADDRESS + (uint64_t)chip->first + first,
                chip->memory + chip->first + first, bytes);
}

/* Time passes; an interrupt is handled. */
static void idle(void *context) {
    struct simulated *chip = context;
    struct state state;
    chip->run(chip->simulation, IDLE_CYCLES);
    chip->state(chip->simulation, &state);
    if (state.words[1]) loopnest_interrupt(chip->program);
}

uint8_t *read_file(const char *path, size_t *bytes) {
    FILE *in = fopen(path, "rb");
    if (!in) fail(path, "cannot be read");
    if (fseek(in, 0, SEEK_END)) fail(path, "cannot be read");
    *bytes = (size_t)ftell(in);
    rewind(in);
    uint8_t *data = malloc(*bytes + 1);
    if (!data || fread(data, 1, *bytes, in) != *bytes) fail(path, "cannot be read");
    fclose(in);
    return data;
}

void simulated_open(struct simulated *chip, const char *path, uint32_t bytes) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(path, dlerror());
    void *(*make)(const struct settings *, const char *);
    /* ISO C has no conversion from a pointer to data to one to a function; POSIX does it this way */
    *(void **)&make = symbol(library, "loopnest_new");
    *(void **)&chip->write = symbol(library, "loopnest_write");
    *(void **)&chip->read = symbol(library, "loopnest_read");
    *(void **)&chip->write_register = symbol(library, "loopnest_write_register");
    *(void **)&chip->read_register = symbol(library, "loopnest_read_register");
    *(void **)&chip->run = symbol(library, "loopnest_run");
    *(void **)&chip->state = symbol(library, "loopnest_state");
    const struct settings settings = {
        .latency = LATENCY, .seed = 1, .fill = 0xa5, .window_first = ADDRESS,
        .window_end = ADDRESS + (uint64_t)bytes, .bytes_per_cycle = 32};
    chip->simulation = make(&settings, "");
    chip->first = 0;
    chip->memory = malloc((size_t)bytes + 1);
    if (!chip->memory) fail("memory", "not enough");
    memset(chip->memory, 0x5a, bytes);
}

struct loopnest_device simulated_device(struct simulated *chip, uint32_t bytes) {
    const struct loopnest_device device = {
        .read = read_register, .write = write_register, .context = chip,
        .memory = chip->memory + chip->first, .address = ADDRESS + chip->first,
        .memory_bytes = bytes, .clean = clean, .invalidate = invalidate, .idle = idle};
    return device;
}

void simulated_close(struct simulated *chip) {
    struct state state;
    chip->state(chip->simulation, &state);
    if (state.words[5]) fail("memory", "the chip has left the program's memory");
    free(chip->memory);
}
